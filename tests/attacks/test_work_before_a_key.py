"""Attacks by work that is done before a key is known to be wrong: S2 of the faults found."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from nullworker.engine.api.http import BODY_BYTES_MAX, LONG_BODY_BYTES_MAX
from nullworker.engine.api.routes import ROUTES
from nullworker.engine.auth.key_index import KeyIndex
from nullworker.engine.auth.keys import Keys
from nullworker.engine.config import EndpointConfig, WorkergroupConfig
from nullworker.wire import decoding, paths
from nullworker.wire.types import EndpointBody, RouteRequest
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Of these routes a body may be long: what describes a workergroup or queues, and what workers list.
LONG = {paths.WORKERGROUPS, paths.WORKERGROUP, paths.WORKERGROUPS_SDK, paths.WORKERGROUP_SDK, paths.DISPATCHERS}
LONG |= {paths.LABELS}
OWN_SITE = {"Sec-Fetch-Site": "same-origin"}  # without which the page's routes read no body
WITH_BODY = sorted(
    {(route.method, route.path.replace("{id}", "1")) for route in ROUTES if route.method in ("POST", "PUT")}
    - {("POST", paths.SIGN_OUT)}  # which reads none
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    endpoints = (EndpointConfig(ENDPOINT, quick(max_workers=0), (WorkergroupConfig(),)),)
    async with running(replace(config(tmp_path_factory.mktemp("engine")), endpoints=endpoints)) as engine:
        yield engine


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(("method", "path"), WITH_BODY)
async def test_a_body_is_bounded_on_every_route(engine: Running, method: str, path: str, is_chunked: bool) -> None:
    is_long = any(path == each.replace("{id}", "1") for each in LONG)
    size = (LONG_BODY_BYTES_MAX if is_long else BODY_BYTES_MAX) + 1

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(0, size, 1 << 14):
            yield b" " * (1 << 14)

    async with aiohttp.ClientSession() as http:
        data = pieces() if is_chunked else io.BytesIO(b" " * size)
        async with http.request(method, engine.url + path, data=data, headers=OWN_SITE) as answer:
            assert answer.status in (413, 401), path
            if path != paths.SIGN_CERT:
                assert answer.status == 413


async def test_a_wrong_key_beside_the_body_is_refused_before_the_body_came(engine: Running) -> None:
    for path in (paths.ENDPOINTS, paths.WORKERGROUPS, paths.DISPATCHERS, paths.UPDATE_WORKERS):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(engine.url.rpartition(":")[2]))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {'0' * 64}\r\nContent-Length: 60000\r\n\r\n"
        writer.write(head.encode())
        assert b" 401 " in await asyncio.wait_for(reader.readline(), HANG_S)
        writer.close()


def _seconds(body: bytes) -> float:
    best = 1e9
    for _ in range(3):
        began = time.perf_counter()
        decoding.decode(EndpointBody, body)
        best = min(best, time.perf_counter() - began)
    return best


async def test_one_float_in_a_whole_numbers_place_costs_no_second_reading_of_all_else() -> None:
    """A MiB of unknown fields took 0.74 s; the second reading now costs about as much as the first."""
    filler = msgspec.json.encode([[float(n), {"a": n}] for n in range(30_000)])
    fast = _seconds(b'{"max_workers": 5, "filler": ' + filler + b"}")
    slow = _seconds(b'{"max_workers": 5.0, "filler": ' + filler + b"}")
    assert slow < 20 * fast + 0.01
    assert decoding.decode(EndpointBody, b'{"max_workers": 5.0, "x": 1.0}').max_workers == 5
    assert decoding.decode(RouteRequest, b'{"endpoint": "e", "request_idx": 7.0}').request_idx == 7


def _seconds_for_a_wrong_key(endpoints: int) -> float:
    catalog = SimpleNamespace(endpoints=dict.fromkeys(range(1, endpoints + 1)))
    keys = Keys("account-key", b"s" * 32)
    index = KeyIndex(catalog, keys)  # type: ignore[arg-type]
    assert index.endpoint_of("0" * 64) is None
    assert index.endpoint_of(keys.endpoint_key(endpoints).reveal()) == endpoints
    best = 1e9
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(100):
            index.endpoint_of("0" * 64)
        best = min(best, time.perf_counter() - began)
    return best / 100


async def test_a_wrong_key_costs_the_same_for_any_number_of_endpoints() -> None:
    assert _seconds_for_a_wrong_key(10_000) < 20 * _seconds_for_a_wrong_key(10) + 1e-5


async def test_an_endpoint_made_or_deleted_later_is_found_or_not() -> None:
    catalog = SimpleNamespace(endpoints={1: None})
    keys = Keys("account-key", b"s" * 32)
    index = KeyIndex(catalog, keys)  # type: ignore[arg-type]
    first, second = (keys.endpoint_key(each).reveal() for each in (1, 2))
    assert (index.endpoint_of(first), index.endpoint_of(second)) == (1, None)
    catalog.endpoints[2] = None
    assert index.endpoint_of(second) == 2
    del catalog.endpoints[1]
    assert (index.endpoint_of(first), index.endpoint_of(second)) == (None, 2)
    catalog.endpoints.clear()
    assert index.endpoint_of(second) is None
    assert index.endpoint_of("\ud800") is None
