from __future__ import annotations

import threading

import pytest

from nullworker.classic.turns import ClientGoneError, ClosedError, Turns


def is_there() -> bool:
    return False


def test_a_turn_is_had_at_once_when_nobody_has_it() -> None:
    turns = Turns()
    turns.take(is_there)()
    turns.take(is_there)()


def test_giving_back_twice_does_not_end_the_next_ones_turn() -> None:
    turns = Turns()
    first = turns.take(is_there)
    first()
    turns.take(is_there)
    first()
    with pytest.raises(ClientGoneError):
        turns.take(lambda: True)


def test_turns_come_in_the_order_of_asking() -> None:
    turns = Turns()
    order: list[int] = []
    current = turns.take(is_there)
    threads: list[threading.Thread] = []
    for number in range(5):

        def wait(number: int = number) -> None:
            give_back = turns.take(is_there)
            order.append(number)
            give_back()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        while len(turns._line) < number + 2:  # the one that has the turn, and those who wait
            pass
    current()
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_a_client_that_hangs_up_loses_its_place_and_nobody_elses() -> None:
    turns = Turns()
    give_back = turns.take(is_there)
    with pytest.raises(ClientGoneError):
        turns.take(lambda: True)
    give_back()
    turns.take(is_there)()


def test_with_parallel_everyone_has_a_turn_at_once() -> None:
    turns = Turns(parallel=True)
    for give_back in [turns.take(is_there), turns.take(is_there)]:
        give_back()


@pytest.mark.parametrize("parallel", [True, False])
def test_once_closed_nobody_gets_a_turn(*, parallel: bool) -> None:
    turns = Turns(parallel=parallel)
    turns.close()
    with pytest.raises(ClosedError):
        turns.take(is_there)


def test_closing_turns_away_those_who_wait() -> None:
    turns = Turns()
    turns.take(is_there)
    refused = threading.Event()

    def wait() -> None:
        with pytest.raises(ClosedError):
            turns.take(is_there)
        refused.set()

    thread = threading.Thread(target=wait)
    thread.start()
    turns.close()
    assert refused.wait(10)
    thread.join(10)
