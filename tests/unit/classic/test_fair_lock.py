from __future__ import annotations

import threading

import pytest

from nullworker.classic.fair_lock import ClientGoneError, ClosedError, FairLock


def is_there() -> bool:
    return False


def test_a_free_lock_is_had_at_once() -> None:
    handler_lock = FairLock()
    handler_lock.acquire(is_there)()
    handler_lock.acquire(is_there)()


def test_releasing_twice_does_not_release_the_next_holder() -> None:
    handler_lock = FairLock()
    first = handler_lock.acquire(is_there)
    first()
    handler_lock.acquire(is_there)
    first()
    with pytest.raises(ClientGoneError):
        handler_lock.acquire(lambda: True)


def test_it_is_granted_in_the_order_of_asking() -> None:
    handler_lock = FairLock()
    order: list[int] = []
    current = handler_lock.acquire(is_there)
    threads: list[threading.Thread] = []
    for number in range(5):

        def wait(number: int = number) -> None:
            release = handler_lock.acquire(is_there)
            order.append(number)
            release()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        while len(handler_lock._queue) < number + 2:  # the holder, and those that wait
            pass
    current()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_a_client_that_hangs_up_loses_its_own_place_only() -> None:
    handler_lock = FairLock()
    release = handler_lock.acquire(is_there)
    with pytest.raises(ClientGoneError):
        handler_lock.acquire(lambda: True)
    release()
    handler_lock.acquire(is_there)()


def test_with_parallel_everyone_has_a_turn_at_once() -> None:
    handler_lock = FairLock(parallel=True)
    for release in [handler_lock.acquire(is_there), handler_lock.acquire(is_there)]:
        release()


@pytest.mark.parametrize("parallel", [True, False])
def test_once_closed_it_is_granted_no_more(*, parallel: bool) -> None:
    handler_lock = FairLock(parallel=parallel)
    handler_lock.close()
    with pytest.raises(ClosedError):
        handler_lock.acquire(is_there)


def test_closing_refuses_those_that_wait() -> None:
    handler_lock = FairLock()
    handler_lock.acquire(is_there)
    refused = threading.Event()

    def wait() -> None:
        with pytest.raises(ClosedError):
            handler_lock.acquire(is_there)
        refused.set()

    thread = threading.Thread(target=wait)
    thread.start()
    handler_lock.close()
    assert refused.wait(10)
    thread.join(10)
