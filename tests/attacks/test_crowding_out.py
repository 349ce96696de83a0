"""Attacks that take what others need: connections, held calls, guesses. S1, S7 and S15 of the faults found."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from nullworker.engine.api import app, listening, live, refusals
from nullworker.engine.api.held_calls import HeldCalls
from nullworker.engine.api.refusals import (
    ENTRIES_BURST,
    ENTRIES_PER_S,
    FLOOD_S,
    WRONG_KEYS_BURST,
    Allowance,
    Kind,
    Refusals,
    block_of,
)
from nullworker.engine.api.turning_away import TurningAway
from nullworker.engine.config import EndpointConfig, WorkergroupConfig
from nullworker.wire import paths
from nullworker.wire.errors import TooManyError
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONNECTIONS = 64
OTHER = "other"
HALF_A_BODY = b"POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"
#: What an attacker's connection sends, and then nothing.
SENT = {"nothing": b"", "half a head": b"GET / HT", "half a body": HALF_A_BODY}
WORKER = 2**40 + 7


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(listening, "connections_max", lambda: CONNECTIONS)
    endpoints = tuple(EndpointConfig(name, quick(max_workers=0), (WorkergroupConfig(),)) for name in (ENDPOINT, OTHER))
    async with running(replace(config(tmp_path), endpoints=endpoints)) as engine:
        yield engine


@contextlib.asynccontextmanager
async def crowd(engine: Running, sent: bytes, address: str) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """An attacker of one address that opens connections all the time, and many more than there are."""
    port = int(engine.url.rpartition(":")[2])
    writers: list[asyncio.StreamWriter] = []

    async def open_more() -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
                writers.append(writer)
                writer.write(sent)
            await asyncio.sleep(0)

    attack = asyncio.ensure_future(open_more())
    try:
        await until(lambda: len(writers) > 3 * CONNECTIONS, "all connections are taken, and more")
        yield writers
    finally:
        attack.cancel()
        await asyncio.wait([attack])
        for writer in writers:
            writer.close()


def report(engine: Running) -> dict[str, Any]:
    token = engine.server.keys.join_token(engine.endpoint_id(), WORKER).reveal()
    body = {"id": WORKER, "mtoken": token, "loadtime": 1.0, "max_perf": 100.0, "cur_load": 0.0}
    return {**body, "num_requests_recieved": 0, "working_request_idxs": [], "url": "http://127.0.0.1:9"}


@pytest.mark.promise("P2")
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
@pytest.mark.parametrize("sent", ["nothing", "half a head", "half a body"])
async def test_no_crowd_keeps_a_workers_report_out(
    engine: Running, sent: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "UNPROVEN_BUSY_S", 0.01)
    status = engine.url + "/worker_status/"
    async with aiohttp.ClientSession() as kept, aiohttp.ClientSession() as fresh:
        async with kept.post(status, json=report(engine)) as answer:
            assert answer.status == 200
        (first,) = engine_connections(engine, is_worker=True)
        async with crowd(engine, SENT[sent], address):
            for _ in range(20):
                async with kept.post(status, json=report(engine)) as answer:
                    assert answer.status == 200
            assert engine_connections(engine, is_worker=True) == [first], "the kept connection was never closed"
            # One that begins now gets through as well, be it at a further try.
            await asyncio.wait_for(_until_taken(fresh, status, report(engine)), HANG_S)
        assert engine.server.connections < 2 * CONNECTIONS  # some that were closed are not gone yet


def engine_connections(engine: Running, *, is_worker: bool) -> list[Any]:
    http = engine.server._http
    assert http is not None
    live = [each for each in http.connections if each.transport is not None]
    return [each for each in live if getattr(each, "is_worker", False) is is_worker]


def owned(engine: Running, owner: str) -> int:
    """How many connections the engine counts for an owner. One that was closed just now may still be seen open."""
    http = engine.server._http
    assert http is not None
    return sum(len(own) for name, own in http._of.items() if name.endswith(owner))


async def _until_taken(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
    while not await _is_taken(http, url, body):  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0)


async def _is_taken(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bool:
    try:
        async with http.post(url, json=body) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def test_one_address_is_left_with_a_part_of_the_connections(
    engine: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusals, "useless", lambda *_: None)  # it is no flood yet
    async with crowd(engine, b"", "127.0.0.2"):
        assert 0 < owned(engine, "127.0.0.2") <= CONNECTIONS // listening.UNPROVEN_PART
        assert engine.server.refusals.counts[Kind.CONNECTION] == 0, "its own oldest ones made room"


async def test_a_worker_has_some_connections_and_no_more(engine: Running) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3 * listening.WORKER_CONNECTIONS_MAX):
            http = await stack.enter_async_context(aiohttp.ClientSession())
            async with http.post(engine.url + "/worker_status/", json=report(engine)) as answer:
                assert answer.status == 200
        assert owned(engine, f"worker {WORKER}") == listening.WORKER_CONNECTIONS_MAX


async def test_a_key_holds_half_of_the_calls_and_the_others_wait_all_the_same(engine: Running) -> None:
    """S15: a key's holder who holds as many calls as it can leaves the others' calls held."""
    ask = {"endpoint": ENDPOINT, "cost": 100, "request_idx": 0}
    calls = [asyncio.ensure_future(engine.call("POST", "/route/", ask)) for _ in range(CONNECTIONS // 2)]
    line = engine.server.driver.engine.state.endpoints[engine.endpoint_id()].line.waiting
    await until(lambda: len(line) == CONNECTIONS // 2, "all wait")
    await until(lambda: sum(call.done() for call in calls) >= CONNECTIONS // 2 - CONNECTIONS // 8, "most are answered")
    for call in calls:
        if call.done():
            assert call.result()[1]["status"] == "WAITING"
    other = asyncio.ensure_future(engine.call("POST", "/route/", {**ask, "endpoint": OTHER}))
    others = engine.server.driver.engine.state.endpoints[engine.endpoint_id(OTHER)].line.waiting
    await until(lambda: bool(others), "it waits")
    await asyncio.sleep(0)
    assert not other.done()
    for call in (*calls, other):
        call.cancel()
    await asyncio.wait([*calls, other])


async def test_a_page_that_is_signed_in_proves_its_stream_and_all_pages_have_a_part_of_the_connections(
    engine: Running,
) -> None:
    jar = aiohttp.CookieJar(unsafe=True)  # the engine has an address and no name
    async with aiohttp.ClientSession(cookie_jar=jar, headers={"Origin": engine.url}) as http:
        async with http.post(engine.url + paths.SIGN_IN, json={"api_key": engine.key}) as answer:
            assert answer.status == 200
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(CONNECTIONS // live.STREAMS_PART):
                answer = await stack.enter_async_context(http.get(f"{engine.url}{paths.LIVE}?view=overview"))
                assert answer.status == 200
            assert owned(engine, "account") >= CONNECTIONS // live.STREAMS_PART
            async with http.get(f"{engine.url}{paths.LIVE}?view=overview") as answer:
                assert answer.status == 429


async def test_wrong_keys_are_bounded_counted_and_logged_and_a_good_one_is_taken(
    engine: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "WRONG_KEY_WAIT_S", 0.0)
    caplog.set_level(logging.WARNING)
    async with aiohttp.ClientSession() as http:
        statuses = []
        for number in range(refusals.WRONG_KEYS_BURST + 20):
            body = {"endpoint": ENDPOINT, "api_key": f"{number:064x}"}
            async with http.post(engine.url + "/route/", json=body) as answer:
                statuses.append(answer.status)
        assert statuses[: refusals.WRONG_KEYS_BURST] == [401] * refusals.WRONG_KEYS_BURST
        assert statuses[-1] == 429
        assert int(answer.headers["Retry-After"]) >= 1
        async with http.post(engine.url + "/worker_status/", json={**report(engine), "mtoken": "0" * 64}) as answer:
            assert answer.status == 429
        async with http.post(engine.url + "/worker_status/", json=report(engine)) as answer:
            assert answer.status == 200, "a good token is taken from the same address"
        for path in (paths.SIGN_IN, paths.LIVE, paths.VIEW):
            async with http.get(engine.url + path, headers={"Authorization": f"Bearer {'0' * 64}"}) as answer:
                assert answer.status == 429, path
        async with http.get(engine.url + "/api/v0/status/", headers={"Authorization": f"Bearer {engine.key}"}) as got:
            told = await got.json()
    assert told["refused"]["wrong_keys"] == refusals.WRONG_KEYS_BURST + 24
    lines = [record.getMessage() for record in caplog.records if "wrong keys" in record.getMessage()]
    assert 1 <= len(lines) <= 2
    assert "127.0.0.1" in lines[0]


async def test_guesses_of_numbers_are_bounded_and_a_waiter_keeps_its_own(engine: Running) -> None:
    ask = {"endpoint": ENDPOINT, "cost": 100, "request_idx": 0}
    held = asyncio.ensure_future(engine.call("POST", "/route/", ask))
    line = engine.server.driver.engine.state.endpoints[engine.endpoint_id()].line.waiting
    await until(lambda: bool(line), "it waits")
    (number,) = line
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    headers = {"Authorization": f"Bearer {engine.key}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as attacker:
        statuses = []
        for guess in range(1, refusals.WRONG_NUMBERS_BURST + 10):
            async with attacker.post(engine.url + "/route/", json={**ask, "request_idx": number + guess}) as answer:
                statuses.append(answer.status)
        assert set(statuses[: refusals.WRONG_NUMBERS_BURST]) == {400}
        assert statuses[-1] == 429
        async with attacker.post(engine.url + "/route/", json={**ask, "request_idx": number}) as answer:
            assert answer.status == 429, "not even a right one is told from a wrong one now"
            assert json.loads(await answer.text())["error"] == "too_many"
    assert not held.done()
    again = asyncio.ensure_future(engine.call("POST", "/route/", {**ask, "request_idx": number}))
    await asyncio.wait([held], timeout=HANG_S)  # the newer call of the same request is held in its place
    assert not again.done()
    again.cancel()
    await asyncio.wait([again])


@pytest.mark.promise("P2")
@pytest.mark.parametrize("is_connected", [False, True])
async def test_the_silence_of_a_worker_while_others_are_turned_away_ends_no_job(
    engine: Running, is_connected: bool
) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.post(engine.url + "/worker_status/", json=report(engine)) as answer:
            assert answer.status == 200
        ask = {"endpoint": ENDPOINT, "cost": 100, "request_idx": 0}
        _, granted = await engine.call("POST", "/route/", ask)
        assert "url" in granted, granted
        listed = {**report(engine), "working_request_idxs": [granted["request_idx"]]}
        async with http.post(engine.url + "/worker_status/", json=listed) as answer:
            assert answer.status == 200
        worker = engine.server.driver.engine.state.workers[WORKER]
        assert worker.state.value == "held"
        TurningAway(engine.server.driver, engine.server.refusals, lambda _: is_connected)("10.0.0.1")
        assert bool(worker.trust.refusal) is not is_connected
        async with http.post(engine.url + "/worker_status/", json={**listed, "cur_load": 100.0}) as answer:
            assert answer.status == 200
        assert not worker.trust.refusal, "its next report is believed again"
    assert engine.server.refusals.counts[Kind.CONNECTION] == 1


# ----------------------------------------------------------------------------------------------------- in their parts


def test_an_address_that_shows_wrong_numbers_goes_on_with_those_that_it_was_given() -> None:
    now = 0.0
    found = Refusals(lambda: now)
    found.gave_number(7, "10.0.0.1")
    for _ in range(refusals.WRONG_NUMBERS_BURST):
        found.wrong_number(1, "10.0.0.1")
    with pytest.raises(TooManyError) as caught:
        found.wrong_number(1, "10.0.0.1")
    assert 0 < caught.value.retry_after_s <= 60
    found.check_number(1, 7, "10.0.0.1")
    with pytest.raises(TooManyError):
        found.check_number(1, 8, "10.0.0.1")
    found.check_number(2, 8, "10.0.0.1")  # its other endpoint
    found.check_number(1, 8, "10.0.0.2")  # another address
    now = 61.0
    found.check_number(1, 8, "10.0.0.1")


def test_an_allowance_comes_back_and_never_beyond_its_burst() -> None:
    now = 0.0
    allowance: Allowance[str] = Allowance(2, 0.5, lambda: now)
    assert [allowance.take("a"), allowance.take("a"), allowance.take("a"), allowance.take("b")] == [
        True,
        True,
        False,
        True,
    ]
    assert allowance.wait_s("a") == pytest.approx(2.0)
    now = 2.0
    assert [allowance.take("a"), allowance.take("a")] == [True, False]
    now = 1_000.0
    assert allowance.left("a") == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REMEMBERED_MAX", 10)
    found = Refusals(lambda: 0.0)
    for number in range(100):
        found.wrong_key(f"10.0.0.{number}")
        found.gave_number(number, "10.0.0.1")
    assert len(found._keys._left) == len(found._given) == 10


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002"),
        ("2001:db8:1:2::1", "20010db800010002"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("", ""),
        ("x:y", "x:y"),
    ],
)
def test_a_site_of_ipv6_counts_as_one_address(address: str, block: str) -> None:
    assert block_of(address) == block


def test_held_calls_are_shared() -> None:
    held = HeldCalls(80)
    assert held.most == 40
    with contextlib.ExitStack() as stack:
        one = [stack.enter_context(held.one_more(1, "10.0.0.1")) for _ in range(30)]
        assert one.count(True) == 10
        other = [stack.enter_context(held.one_more(1, "10.0.0.2")) for _ in range(30)]
        assert other.count(True) == 10
        assert stack.enter_context(held.one_more(1, "10.0.0.3")) is False
        assert stack.enter_context(held.one_more(2, "10.0.0.1")) is True
    assert not held._of
    assert held._all == 0


FLOODS = {
    "wrong keys": b"GET /api/v0/status/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n",
    "no HTTP": b"\x00\x01\r\n\r\n",
    "nothing": b"",
    "half a body": HALF_A_BODY,
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_an_address_that_floods_is_let_in_now_and_then_and_others_always(engine: Running, kind: str) -> None:
    known, port = engine.server.refusals, urlsplit(engine.url).port

    async def flood() -> None:
        while not known.is_flooded:
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            writer.write(FLOODS[kind])
            writer.close()

    await asyncio.wait_for(flood(), HANG_S)
    before = known.counts[Kind.CONNECTION]
    with contextlib.suppress(OSError):
        for _ in range(3 * ENTRIES_BURST):
            _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
            writer.close()
    await until(lambda: known.counts[Kind.CONNECTION] > before, "some are closed before they are served")
    for _ in range(5):  # each on a connection of its own
        assert (await engine.call("GET", "/api/v0/status/"))[0] == 200


async def test_an_address_with_a_good_key_on_a_connection_is_let_in_whatever_else_comes_from_it(
    engine: Running,
) -> None:
    http = engine.server._http
    assert http is not None
    known = engine.server.refusals
    headers = {"Authorization": f"Bearer {engine.key}"}
    async with aiohttp.ClientSession(headers=headers) as kept, kept.get(engine.url + "/api/v0/status/") as answer:
        assert answer.status == 200
        for _ in range(WRONG_KEYS_BURST + 1):
            known.useless("127.0.0.1")
        assert known.is_flooded
        for _ in range(2 * ENTRIES_BURST):
            assert (await engine.call("GET", "/api/v0/status/"))[0] == 200
    await until(lambda: not http._proven_at, "no connection is left")


def test_a_flood_is_over_some_seconds_after_its_last() -> None:
    now = 100.0
    known = Refusals(lambda: now)
    for _ in range(WRONG_KEYS_BURST):
        known.useless("a")
    assert not known.is_flooded
    known.useless("a")
    assert [known.may_enter("a") for _ in range(ENTRIES_BURST + 1)] == [True] * ENTRIES_BURST + [False]
    assert known.may_enter("b")
    now += 1.5 / ENTRIES_PER_S
    assert known.may_enter("a")
    assert not known.may_enter("a")
    now += FLOOD_S
    assert not known.is_flooded
    assert all(known.may_enter("a") for _ in range(100))
