"""The views over HTTP: at once and as they change, for readers, and for no page of another site."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from nullworker.engine.api import acts, live
from nullworker.engine.auth.keys import Role
from nullworker.wire import paths
from tests.integration.engine.kit import ENDPOINT, Running, config, endpoint_of, quick, running
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(config(tmp_path_factory.mktemp("engine"), quick(max_workers=1))) as engine:
        yield engine


@contextlib.asynccontextmanager
async def stream(engine: Running, query: str, key: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
    headers = {"Authorization": f"Bearer {key or engine.key}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{engine.url}{paths.LIVE}?{query}") as answer:
        yield answer


async def event(answer: aiohttp.ClientResponse, kind: str) -> Any:
    """The data of the next event of a kind."""

    async def read() -> Any:
        found = ""
        async for line in answer.content:
            text = line.decode().strip()
            if text.startswith("event: "):
                found = text.removeprefix("event: ")
            elif text.startswith("data: ") and found == kind:
                return json.loads(text.removeprefix("data: "))
        raise AssertionError(f"the stream ended before {kind}")

    return await asyncio.wait_for(read(), HANG_S)


async def test_a_stream_begins_with_the_view_and_then_says_that_it_is_current(engine: Running) -> None:
    _, key = engine.server.keys.ring.create("reader", Role.READ)
    async with stream(engine, "view=overview", key.reveal()) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        view = await event(answer, "view")
        # What other tests left may be held, coming up or leaving; that it is up or not is said first.
        assert view["endpoints"][0]["headline"].split(",")[0] in ("no worker is up", "0 of 1 held", "1 of 1 held")
        assert (await event(answer, "current"))["at_s"] >= view["at_s"]


async def test_what_changes_is_sent(engine: Running) -> None:
    async with stream(engine, f"view=lanes&endpoint={ENDPOINT}") as answer, endpoint_of(engine) as endpoint:
        first = await event(answer, "view")
        assert first["whole"]
        session = await endpoint.session(cost=100, lifetime=60)
        holds: list[Any] = []
        while not any(end is None for _, _, end, _ in holds):
            view = await event(answer, "view")
            assert not view["whole"] or not first["lanes"]
            holds = [hold for lane in view["lanes"] for hold in lane["holds"]]
        await session.close()


async def test_nothing_is_known_of_a_worker_that_never_was(engine: Running) -> None:
    async with stream(engine, "view=worker&id=99") as answer:
        assert (await event(answer, "refused"))["msg"] == "Nothing is known of worker 99."


@pytest.mark.parametrize(
    ("query", "status"),
    [("view=secrets", 400), ("view=worker&id=x", 400), ("view=lanes&endpoint=none", 404), ("view=worker&id=-1", 400)],
)
async def test_a_view_that_is_none_is_refused_in_a_sentence(engine: Running, query: str, status: int) -> None:
    for path in (paths.VIEW, paths.LIVE):
        got, answer = await engine.call("GET", f"{path}?{query}")
        assert got == status
        assert answer["msg"]


async def test_no_key_no_view(engine: Running) -> None:
    for path in (paths.VIEW, paths.LIVE, paths.MOMENT, paths.AUDIT):
        assert (await engine.call("GET", path, key=""))[0] == 401
        assert (await engine.call("GET", path, key="wrong-key-000"))[0] == 401


async def test_there_are_not_more_streams_than_there_may_be(engine: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STREAMS_MAX", 1)
    async with stream(engine, "view=overview") as first:
        await event(first, "view")
        assert (await engine.call("GET", f"{paths.LIVE}?view=overview"))[0] == 429


@contextlib.asynccontextmanager
async def signed_in(engine: Running, key: str = "") -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.CookieJar(unsafe=True)  # for an IP address
    async with aiohttp.ClientSession(cookie_jar=jar, headers={"Origin": engine.url}) as http:
        answer = await http.post(engine.url + paths.SIGN_IN, json={"api_key": key or engine.key})
        assert answer.status == 200
        yield http


async def test_a_page_of_another_site_changes_and_reads_nothing(engine: Running) -> None:
    before = engine.server.catalog.by_name[ENDPOINT].parameters
    path = f"{engine.url}/api/v0/endptjobs/{engine.endpoint_id()}/"
    async with signed_in(engine) as http:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await http.put(path, json={"max_workers": 9}, headers=headers)
            assert answer.status == 403
            answer = await http.get(f"{engine.url}{paths.VIEW}", headers=headers)
            assert answer.status == 403
            answer = await http.post(engine.url + paths.SIGN_OUT, headers=headers)
            assert answer.status == 403
        assert engine.server.catalog.by_name[ENDPOINT].parameters == before
        assert (await http.put(path, json={"max_workers": 1})).status == 200
        assert (await http.post(engine.url + paths.SIGN_OUT)).status == 200
        assert (await http.get(f"{engine.url}{paths.VIEW}")).status == 401


async def test_a_page_is_told_no_key(engine: Running) -> None:
    async with signed_in(engine) as http:
        for path in (paths.KEYS, paths.ROTATE_KEY):
            body = {"name": "x", "role": "admin", "account": True}
            assert (await http.post(engine.url + path, json=body)).status == 403
        assert (await http.get(engine.url + paths.ENDPOINTS)).status == 401
        keys = engine.server.keys
        secrets = [engine.key, keys.endpoint_key(engine.endpoint_id()).reveal(), keys.worker_token(1).reveal()]
        for view in ("overview", "lanes", "waiting", "queues", "decisions"):
            text = await (await http.get(f"{engine.url}{paths.VIEW}?view={view}")).text()
            assert not any(secret in text for secret in secrets)


async def test_guessing_keys_is_stopped_for_a_while(engine: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acts, "WRONG_KEYS_A_MINUTE", 2)
    seen = []
    async with aiohttp.ClientSession(headers={"Origin": engine.url}) as http:
        for _ in range(8):
            seen.append((await http.post(engine.url + paths.SIGN_IN, json={"api_key": "wrong-key"})).status)  # noqa: PERF401
    assert 429 in seen  # a minute may begin in between
    assert set(seen) == {401, 429}


async def test_one_that_waits_can_be_ended_and_not_extended(engine: Running) -> None:
    async with endpoint_of(engine) as endpoint:
        session = await endpoint.session(cost=100, lifetime=60)
        asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=60))
        reservations = engine.server.driver.engine.state.reservations
        await until(lambda: len(reservations) == 2)
        _, waiter = sorted(reservations)
        status, answer = await engine.call("POST", paths.EXTEND, {"request_idx": waiter, "seconds": 60})
        assert (status, answer["field"]) == (400, "request_idx")
        for path in (paths.EXTEND, paths.WITHDRAW):
            assert (await engine.call("POST", path, {"request_idx": 1, "seconds": 60}))[0] == 404
        assert (await engine.call("POST", paths.WITHDRAW, {"request_idx": waiter}))[0] == 200
        assert waiter not in reservations
        asking.cancel()
        await asyncio.wait([asking])
        await session.close()
