"""What can go wrong between client, engine and worker, each made to happen at the moment where it hurts."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest

from nullworker.client import NullClient, reserve
from nullworker.client.errors import (
    CertificateUnavailableError,
    EndpointUnknownError,
    EngineRefusedError,
    EngineUnreachableError,
    KeyRefusedError,
    NoWorkerInTimeError,
    ReservationLostError,
    WorkerRefusedError,
    WorkerUnreachableError,
)
from tests.kit.authority import Authority
from tests.kit.client_stubs import RoutingEngine, StubWorker, server_context
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT = "null-test"


class TestOpening:
    async def test_payload_cost_and_lifetime_reach_the_worker(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """What the caller gives arrives unchanged where it is meant to."""
        stub_engine.add(stub_workers[0])
        reservation = await client.open(
            ENDPOINT, cost=42, lifetime_s=7, payload={"job": "a-1"}, on_close_route="http://127.0.0.1:9/closed"
        )
        assert stub_engine.asks[0]["cost"] == 42
        assert stub_workers[0].opened[0].payload == {
            "lifetime": 7,
            "on_close_route": "http://127.0.0.1:9/closed",
            "on_close_payload": {"job": "a-1"},
        }
        assert reservation.auth_data == stub_workers[0].opened[0].auth_data
        await reservation.release()

    async def test_a_waiting_caller_is_told_why_once(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker], client: NullClient
    ) -> None:
        """The engine's reason arrives, and is not repeated while it stays the same."""
        stub_engine.hold_s = 0.05
        stub_engine.reason = "the endpoint is at its cap of 4 workers"
        reasons: list[str] = []
        task = asyncio.ensure_future(client.open(ENDPOINT, on_waiting=reasons.append))
        await until(lambda: len(stub_engine.asks) >= 3)
        stub_engine.add(stub_workers[0])
        await (await task).release()
        assert reasons == ["the endpoint is at its cap of 4 workers"]

    async def test_the_deadline_passes_with_the_reason(self, stub_engine: RoutingEngine, client: NullClient) -> None:
        """No worker within the deadline is an error that says why there was none."""
        stub_engine.hold_s = 0.05
        stub_engine.reason = "every worker fails to start"
        with pytest.raises(NoWorkerInTimeError, match=r"within 2 s \(every worker fails to start\)"):
            await client.open(ENDPOINT, deadline_s=1.5)
        await until(lambda: stub_engine.waiting == 0)

    async def test_an_occupied_worker_is_tried_again_with_the_same_request(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """A 429 of the worker leads back to the engine, not to the caller."""
        worker = stub_workers[0]
        worker.create_statuses.append(429)
        stub_engine.add(worker)
        reservation = await client.open(ENDPOINT, deadline_s=HANG_S)
        assert [ask["request_idx"] for ask in stub_engine.asks] == [0, 1]
        await reservation.release()

    async def test_a_worker_that_is_not_there_is_asked_for_again_with_the_same_request_and_a_pause(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """The engine learns that its word was not taken up, and is not asked without end in the meantime."""
        worker = stub_workers[0]
        await worker.stop()
        stub_engine.add(worker)
        began_s = asyncio.get_running_loop().time()
        task = asyncio.ensure_future(client.open(ENDPOINT))
        await until(lambda: len(stub_engine.asks) >= 3)
        assert asyncio.get_running_loop().time() - began_s >= 0.37, "at least half of 0.25 s, and half of twice that"
        await worker.start()
        await (await task).release()
        assert {ask["request_idx"] for ask in stub_engine.asks} == {0, 1}

    async def test_the_caller_knows_from_when_on_a_worker_may_be_held(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """on_creating is called before each worker is asked, and not while the engine lets the caller wait."""
        asked_before: list[int] = []
        worker = stub_workers[0]
        worker.create_statuses.append(429)
        task = asyncio.ensure_future(
            client.open(ENDPOINT, on_creating=lambda _: asked_before.append(worker.asked.count("/session/create")))
        )
        await stub_engine.wait_until(lambda: stub_engine.waiting == 1)
        assert asked_before == []
        stub_engine.add(worker)
        await (await task).release()
        assert asked_before == [0, 1]

    async def test_a_callers_own_function_that_fails_while_waiting_changes_nothing(
        self,
        stub_engine: RoutingEngine,
        stub_workers: list[StubWorker],
        client: NullClient,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is logged, and the worker is held all the same."""

        def fail(_: str) -> None:
            raise ValueError("a bug of the caller's")

        stub_engine.hold_s = 0.05
        task = asyncio.ensure_future(client.open(ENDPOINT, on_waiting=fail))
        await until(lambda: len(stub_engine.asks) >= 2)
        stub_engine.add(stub_workers[0])
        await (await task).release()
        assert "on_waiting, a function of the caller's, failed" in caplog.text

    async def test_a_callers_own_function_that_fails_before_a_worker_is_asked_ends_it(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker], client: NullClient
    ) -> None:
        """What could not be written down is not held."""

        def fail(_: object) -> None:
            raise OSError("the disk is full")

        stub_engine.add(stub_workers[0])
        with pytest.raises(OSError, match="the disk is full"):
            await client.open(ENDPOINT, on_creating=fail)
        assert stub_workers[0].asked == []

    async def test_a_worker_that_refuses_for_good_is_an_error_at_once(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """What is wrong with the request is wrong everywhere."""
        stub_workers[0].create_statuses.append(400)
        stub_engine.add(stub_workers[0])
        with pytest.raises(WorkerRefusedError, match=r"HTTP 400.*as told"):
            await client.open(ENDPOINT, deadline_s=HANG_S)

    @pytest.mark.parametrize("status", [401, 409, 410])
    async def test_a_grant_that_a_worker_does_not_take_is_asked_for_again_three_times_at_most(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker], status: int
    ) -> None:
        """It may have run out on the way; three in a row have not."""
        for worker in stub_workers:
            worker.create_statuses.append(status)
            stub_engine.add(worker)
        with pytest.raises(WorkerRefusedError, match=f"HTTP {status}"):
            await client.open(ENDPOINT, deadline_s=HANG_S)
        assert [ask["request_idx"] for ask in stub_engine.asks] == [0, 0, 0]
        stub_engine.add(stub_workers[0])
        await (await client.open(ENDPOINT, deadline_s=HANG_S)).release()

    async def test_a_reservation_over_tls_is_held_and_released(self, authority: Authority, tmp_path: Path) -> None:
        """The engine's own authority vouches for the workers."""
        engine, worker = RoutingEngine(authority.pem), StubWorker(server_context(authority, tmp_path))
        await engine.start()
        await worker.start()
        try:
            engine.add(worker)
            async with reserve(ENDPOINT, instance=engine.url, api_key=engine.api_key) as reservation:
                assert reservation.url.startswith("https://")
                assert await reservation.is_open()
            assert not worker.sessions
        finally:
            await worker.stop()
            await engine.stop()

    async def test_a_worker_with_a_foreign_certificate_is_asked_nothing(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        """Else it would learn what proves that a session is ours; it counts as one that does not take it."""
        foreign = Authority()
        engine, worker = RoutingEngine(authority.pem), StubWorker(server_context(foreign, tmp_path))
        await engine.start()
        await worker.start()
        try:
            engine.add(worker)
            reasons: list[str] = []
            async with NullClient(engine.url, engine.api_key) as client:
                with pytest.raises(NoWorkerInTimeError, match="did not take it"):
                    await client.open(ENDPOINT, deadline_s=1.0, on_waiting=reasons.append)
            assert len(engine.asks) > 1
            assert worker.asked == []
        finally:
            await worker.stop()
            await engine.stop()

    async def test_a_hundred_openings_connect_and_look_up_once(
        self, client: NullClient, stub_engine: RoutingEngine
    ) -> None:
        """However many callers are the first."""
        tasks = [asyncio.ensure_future(client.open(ENDPOINT)) for _ in range(100)]
        await stub_engine.wait_until(lambda: stub_engine.waiting == 100)
        assert stub_engine.list_calls == 1
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: stub_engine.waiting == 0)

    async def test_the_certificate_is_fetched_once_for_all_that_connect_at_once(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """Adopting fifty reservations after a crash makes one connection pool."""
        stub_engine.add(stub_workers[0])
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            record = {**(await client.open(ENDPOINT)).to_record(), "url": "https://127.0.0.1:9"}
        stub_engine.certificate_calls = 0
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            tries = [client.adopt(record, timeout_s=HANG_S) for _ in range(50)]
            results = await asyncio.gather(*tries, client.endpoints(), return_exceptions=True)
        assert {type(result) for result in results[:50]} == {ReservationLostError}  # nothing listens there
        assert stub_engine.certificate_calls == 1


class TestEngine:
    @pytest.mark.parametrize("deadline_s", [HANG_S, None])
    async def test_a_restart_is_ridden_out(
        self,
        client: NullClient,
        stub_engine: RoutingEngine,
        stub_workers: list[StubWorker],
        deadline_s: float | None,
    ) -> None:
        """A waiter whose engine is stopped and started again gets its worker, also without a deadline."""
        task = asyncio.ensure_future(client.open(ENDPOINT, deadline_s=deadline_s))
        await stub_engine.wait_until(lambda: stub_engine.waiting == 1)
        await stub_engine.stop()
        await until(lambda: stub_engine.waiting == 0)
        await stub_engine.start()
        await stub_engine.wait_until(lambda: stub_engine.waiting == 1)
        stub_engine.add(stub_workers[0])
        await (await task).release()

    async def test_an_engine_that_is_not_there_yet_is_waited_for_until_the_deadline(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """With a deadline, the engine may start after its client."""
        await stub_engine.stop()
        stub_engine.add(stub_workers[0])
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            task = asyncio.ensure_future(client.open(ENDPOINT, deadline_s=HANG_S))
            await asyncio.sleep(0.3)
            assert not task.done()
            await stub_engine.start()
            await (await task).release()

    async def test_an_engine_that_is_not_there_is_an_error_at_once_without_a_deadline(
        self, stub_engine: RoutingEngine
    ) -> None:
        """A wrong address is not waited for."""
        await stub_engine.stop()
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            with pytest.raises(EngineUnreachableError, match=r"does not answer .*start it"):
                await client.open(ENDPOINT)

    async def test_an_engine_that_is_not_there_is_an_error_when_the_deadline_passes(
        self, stub_engine: RoutingEngine
    ) -> None:
        """The error names the engine, not the lack of workers."""
        await stub_engine.stop()
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            with pytest.raises(EngineUnreachableError, match=r"does not answer.*\(connection refused\): start it"):
                await client.open(ENDPOINT, deadline_s=1.0)

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_a_passing_failure_is_tried_again(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker], status: int
    ) -> None:
        """The caller does not see failures that pass."""
        stub_engine.route_statuses.extend([status, status])
        stub_engine.add(stub_workers[0])
        await (await client.open(ENDPOINT, deadline_s=HANG_S)).release()
        assert len(stub_engine.asks) == 3

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (400, EngineRefusedError),
            (401, KeyRefusedError),
            (403, KeyRefusedError),
            (404, EndpointUnknownError),
            (413, EngineRefusedError),
        ],
    )
    async def test_a_refusal_for_good_is_raised_after_one_look_at_the_list(
        self, client: NullClient, stub_engine: RoutingEngine, status: int, error: type[Exception]
    ) -> None:
        """Asking again does not help, except with the endpoint's key, which may be a new one."""
        await client.workers(ENDPOINT)
        stub_engine.route_statuses.extend([status] * 5)
        with pytest.raises(error):
            await client.open(ENDPOINT, deadline_s=HANG_S)
        assert len(stub_engine.asks) <= 2

    async def test_an_endpoint_that_was_made_again_is_looked_up_again(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """A remembered key that is refused is replaced by the one in the list."""
        await client.workers(ENDPOINT)
        stub_engine.route_statuses.append(401)
        stub_engine.add(stub_workers[0])
        await (await client.open(ENDPOINT, deadline_s=HANG_S)).release()
        assert stub_engine.list_calls == 2

    async def test_another_server_at_the_address_is_told_from_an_engine(self, stub_engine: RoutingEngine) -> None:
        """A server without the certificate is no engine."""
        stub_engine.certificate_status = 404
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            with pytest.raises(CertificateUnavailableError, match="not some other server"):
                await client.open(ENDPOINT, deadline_s=HANG_S)

    async def test_what_is_no_certificate_is_an_error(self, stub_engine: RoutingEngine) -> None:
        """A page of HTML at the certificate's address is said to be none."""
        stub_engine.certificate = b"<html>Hello</html>"
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            with pytest.raises(CertificateUnavailableError, match="certificate"):
                await client.open(ENDPOINT, deadline_s=HANG_S)
            with pytest.raises(ssl.SSLError):
                ssl.create_default_context(cadata=stub_engine.certificate.decode())


class TestCancellation:
    async def test_while_waiting_for_the_engine_the_waiter_is_gone_at_once(
        self, client: NullClient, stub_engine: RoutingEngine
    ) -> None:
        """The connection is dropped, by which the engine knows."""
        task = asyncio.ensure_future(client.open(ENDPOINT))
        await stub_engine.wait_until(lambda: stub_engine.waiting == 1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await stub_engine.wait_until(lambda: stub_engine.waiting == 0)

    async def test_while_the_worker_creates_the_session_is_ended_when_it_is_there(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """The caller goes at once; what it asked for is given back."""
        worker = stub_workers[0]
        worker.answering.clear()
        stub_engine.add(worker)
        task = asyncio.ensure_future(client.open(ENDPOINT))
        await worker.creating.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert worker.sessions
        worker.answering.set()
        await until(lambda: not worker.sessions)
        assert worker.ended == ["session-0"]

    async def test_closing_the_client_waits_for_what_is_to_be_ended(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """reserve() cancelled in mid-create has given the session back when it returns."""
        worker = stub_workers[0]
        worker.answering.clear()
        stub_engine.add(worker)

        async def hold() -> None:
            async with reserve(ENDPOINT, instance=stub_engine.url, api_key=stub_engine.api_key):
                raise AssertionError("was cancelled before")

        task = asyncio.ensure_future(hold())
        await worker.creating.wait()
        task.cancel()
        await asyncio.sleep(0.1)
        assert not task.done()
        worker.answering.set()
        await asyncio.wait({task})
        assert task.cancelled()
        assert not worker.sessions

    async def test_a_create_that_is_refused_after_the_caller_left_is_not_tried_again(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """No worker is wanted any more, so that none is asked for."""
        first, second = stub_workers[:2]
        first.answering.clear()
        stub_engine.add(first)
        task = asyncio.ensure_future(client.open(ENDPOINT))
        await first.creating.wait()
        task.cancel()
        await asyncio.wait({task})
        await first.stop()  # the create breaks off
        stub_engine.add(second)
        await client.close()
        assert not second.opened

    async def test_while_held_the_worker_is_released(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """Cancelling the holder gives the worker back."""
        stub_engine.add(stub_workers[0])
        holding = asyncio.Event()

        async def hold() -> None:
            async with reserve(ENDPOINT, instance=stub_engine.url, api_key=stub_engine.api_key):
                holding.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(hold())
        await holding.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert stub_workers[0].ended == ["session-0"]

    @pytest.mark.parametrize("pause_s", [0.0, 0.001, 0.002, 0.003, 0.005, 0.008, 0.013, 0.021])
    async def test_at_any_moment_nothing_is_left_behind(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker], pause_s: float
    ) -> None:
        """Wherever the cancellation strikes, no session and no waiter stays."""
        stub_engine.add(stub_workers[0])
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            await client.endpoints()
            for _ in range(10):
                task = asyncio.ensure_future(client.open(ENDPOINT))
                await asyncio.sleep(pause_s)
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled():
                    await task.result().release()
        await until(lambda: not stub_workers[0].sessions and stub_engine.waiting == 0)


class TestHolding:
    async def test_an_end_by_the_worker_is_noticed(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """A consumer that lets go ends the reservation, and the holder learns of it."""
        stub_engine.add(stub_workers[0])
        reservation = await client.open(ENDPOINT, check_s=0.05)
        stub_workers[0].drop()
        assert "has ended it" in await asyncio.wait_for(reservation.wait_closed(), HANG_S)
        assert reservation.is_closed
        await reservation.release()
        assert "/session/end" not in stub_workers[0].asked

    async def test_a_worker_that_is_gone_is_noticed(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """Nothing listens there any more: the reservation is over."""
        stub_engine.add(stub_workers[0])
        reservation = await client.open(ENDPOINT, check_s=0.05)
        await stub_workers[0].stop()
        assert await asyncio.wait_for(reservation.wait_closed(), HANG_S) == "its worker is gone"
        assert not await reservation.is_open()
        with pytest.raises(ReservationLostError, match="its worker is gone"):
            await reservation.ping()

    async def test_keep_alive_outlives_the_lifetime_without_running_away(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """Twenty looks at a session with time enough left cost no ping, hence do not move its end."""
        stub_engine.add(stub_workers[0])
        reservation = await client.open(ENDPOINT, lifetime_s=60, check_s=0.01)
        await until(lambda: stub_workers[0].asked.count("/session/get") >= 20)
        assert stub_workers[0].opened[0].pings == 0
        stub_workers[0].opened[0].expiration -= 30
        await until(lambda: stub_workers[0].opened[0].pings == 1)
        await until(lambda: stub_workers[0].asked.count("/session/get") >= 40)
        assert stub_workers[0].opened[0].pings == 1
        await reservation.release()

    async def test_a_worker_that_fails_to_answer_is_not_a_lost_one(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """An answer of 500 says nothing about the session."""
        stub_engine.add(stub_workers[0])
        reservation = await client.open(ENDPOINT, check_s=HANG_S)
        stub_workers[0].statuses.append(500)
        with pytest.raises(WorkerUnreachableError, match="HTTP 500"):
            await reservation.is_open()
        assert await reservation.is_open()
        stub_workers[0].statuses.extend([500, 503])
        await reservation.release()
        assert not stub_workers[0].sessions

    async def test_released_twice_at_once_is_released_once(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """release() may be called at any time, and twice."""
        stub_engine.add(stub_workers[0])
        reservation = await client.open(ENDPOINT)
        await asyncio.gather(reservation.release(), reservation.release())
        await reservation.release()
        assert stub_workers[0].asked.count("/session/end") == 1

    async def test_closing_the_client_ends_no_reservation(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """A dispatcher that stops leaves its consumers at their work."""
        stub_engine.add(stub_workers[0])
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            await client.open(ENDPOINT)
        assert stub_workers[0].sessions

    async def test_a_reservation_is_adopted_and_kept_while_the_engine_is_away(
        self, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """Holder and engine have crashed together: what is held is not lost for that."""
        stub_engine.add(stub_workers[0])
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            record = (await client.open(ENDPOINT)).to_record()
        await stub_engine.stop()
        async with NullClient(stub_engine.url, stub_engine.api_key) as client:
            adopted = await client.adopt(record)
            await adopted.ping()
            assert stub_workers[0].opened[0].pings == 1
            await adopted.release()

    async def test_an_adopted_reservation_of_a_silent_worker_may_be_held_still(
        self, client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
    ) -> None:
        """Only a worker that answers can say that a session is over."""
        stub_engine.add(stub_workers[0])
        record = (await client.open(ENDPOINT)).to_record()
        stub_workers[0].statuses.extend([503] * 50)
        with pytest.raises(WorkerUnreachableError, match="may still be held"):
            await client.adopt(record, timeout_s=0.5)

    @pytest.mark.parametrize(
        "wrong", [{"cost": 0}, {"cost": float("nan")}, {"lifetime_s": -1}, {"payload": {"a": {1}}}]
    )
    async def test_arguments_without_sense_are_refused_before_anything_is_asked(
        self, client: NullClient, stub_engine: RoutingEngine, wrong: dict[str, object]
    ) -> None:
        """Bad input changes nothing anywhere."""
        with pytest.raises(ValueError, match=next(iter(wrong))):
            await client.open(ENDPOINT, **wrong)  # type: ignore[arg-type]  # that is the point
        assert not stub_engine.asks


async def test_a_failure_is_raised_and_nothing_is_printed(
    stub_engine: RoutingEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    """Errors are raised in one sentence; what a library logs would come on top."""
    stub_engine.route_statuses.append(400)
    async with NullClient(stub_engine.url, stub_engine.api_key) as client:
        with pytest.raises(EngineRefusedError):
            await client.open(ENDPOINT)
    assert capfd.readouterr() == ("", "")
