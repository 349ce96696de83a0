"""What holds with any engine: the stub here, the real one, Vast's own."""

from __future__ import annotations

import asyncio

import pytest

from nullworker.client import NullClient, reserve
from nullworker.client.errors import (
    EndpointUnknownError,
    KeyRefusedError,
    RecordInvalidError,
    ReservationLostError,
)
from tests.kit.waiting import HANG_S


async def test_a_reservation_is_open_inside_the_block_and_over_after_it(
    engine_url: str, api_key: str, endpoint_name: str
) -> None:
    """The worker confirms that it is held, until the block ends."""
    async with reserve(endpoint_name, instance=engine_url, api_key=api_key, deadline_s=HANG_S) as reservation:
        assert await reservation.is_open()
        assert reservation.url.startswith("http")
        assert reservation.request_idx > 0
    assert reservation.is_closed
    assert reservation.closed_because == "released"
    assert not await reservation.is_open()


async def test_as_many_reservations_as_there_is_room_get_a_worker_each(
    engine_url: str, api_key: str, endpoint_name: str
) -> None:
    """Four asked at once over one client are held at once, by four workers."""
    async with NullClient(engine_url, api_key) as client:
        held = await asyncio.gather(*(client.open(endpoint_name, deadline_s=HANG_S) for _ in range(4)))
        assert len({one.url for one in held}) == 4
        await asyncio.gather(*(one.release() for one in held))


async def test_a_ping_is_answered_while_held_and_tells_of_the_end_after(
    engine_url: str, api_key: str, endpoint_name: str
) -> None:
    """ping() extends a reservation, and raises once it is over."""
    async with NullClient(engine_url, api_key) as client:
        reservation = await client.open(endpoint_name, deadline_s=HANG_S)
        await reservation.ping()
        await reservation.release()
        with pytest.raises(ReservationLostError, match="released"):
            await reservation.ping()


async def test_a_crashed_callers_reservation_is_adopted_by_its_record(
    engine_url: str, api_key: str, endpoint_name: str
) -> None:
    """A second client, with nothing but the record, holds the same session and ends it."""
    async with NullClient(engine_url, api_key) as first:
        reservation = await first.open(endpoint_name, deadline_s=HANG_S, keep_alive=False)
        record = reservation.to_record()
    async with NullClient(engine_url, api_key) as second:
        adopted = await second.adopt(record)
        assert (adopted.session_id, adopted.url, adopted.opened_at) == (
            reservation.session_id,
            reservation.url,
            reservation.opened_at,
        )
        assert await adopted.is_open()
        await adopted.release()
        with pytest.raises(ReservationLostError, match="open a new one"):
            await second.adopt(record)


async def test_what_is_no_record_is_not_adopted(engine_url: str, api_key: str) -> None:
    """A record of something else is refused with what is wrong in it."""
    async with NullClient(engine_url, api_key) as client:
        with pytest.raises(RecordInvalidError, match="version"):
            await client.adopt({"session_id": "x"})


async def test_an_unknown_endpoint_is_named_with_those_that_there_are(
    engine_url: str, api_key: str, endpoint_name: str
) -> None:
    """How the endpoint is spelt need not be looked up."""
    async with NullClient(engine_url, api_key) as client:
        with pytest.raises(EndpointUnknownError, match=f"'nul-tset'.*{endpoint_name}"):
            await client.open("nul-tset", deadline_s=HANG_S)


async def test_a_wrong_key_is_refused_at_once(engine_url: str, endpoint_name: str) -> None:
    """No retry makes a wrong key right."""
    async with NullClient(engine_url, "not-the-key") as client:
        with pytest.raises(KeyRefusedError, match="VAST_API_KEY"):
            await client.open(endpoint_name, deadline_s=HANG_S)


async def test_a_wrong_key_says_that_it_is_of_the_environment(
    engine_url: str, endpoint_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was set for Vast hides the key that an engine on this machine keeps."""
    monkeypatch.setenv("VAST_API_KEY", "not-the-key")
    async with NullClient(engine_url) as client:
        with pytest.raises(KeyRefusedError, match="it is the one in VAST_API_KEY; unset that"):
            await client.open(endpoint_name, deadline_s=HANG_S)


async def test_endpoints_and_workers_are_listed(engine_url: str, api_key: str, endpoint_name: str) -> None:
    """The facts that a dispatcher needs come over the same client."""
    async with NullClient(engine_url, api_key) as client:
        assert endpoint_name in [endpoint.name for endpoint in await client.endpoints()]
        async with reserve(endpoint_name, client=client, deadline_s=HANG_S):
            workers = await client.workers(endpoint_name)
        assert workers
        assert all(worker.status for worker in workers)
