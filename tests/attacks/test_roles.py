"""Attacks with a key that is good for something else: every route, with a key of every kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from nullworker.client import NullClient
from nullworker.client.errors import ClientError, EndpointUnknownError, NoWorkerInTimeError
from nullworker.engine.api import refusals
from nullworker.engine.api.routes import ROUTES
from nullworker.engine.auth.keys import Role
from nullworker.engine.config import EndpointConfig, WorkergroupConfig
from nullworker.wire import paths
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.engine.api.openapi import Route

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER = "other"
#: Which of the engine's keys pass each kind of route. What they then ask for makes no sense, and is refused as that.
PASSES = {
    "account": {"account", "admin"},
    "operator": {"account", "admin", "operate"},
    "reader": {"account", "admin", "operate", "read"},
    "key": {"account", "admin", "operate", "route", "endpoint"},
    "endpoint": {"account", "admin", "operate", "route", "endpoint", "read"},
}
KINDS = ("account", "admin", "operate", "read", "route", "endpoint", "revoked")
GUARDED = [route for route in ROUTES if route.auth in PASSES]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    endpoints = tuple(EndpointConfig(name, quick(max_workers=0), (WorkergroupConfig(),)) for name in (ENDPOINT, OTHER))
    with pytest.MonkeyPatch.context() as patch:
        # All routes of this file are asked with wrong keys within a second or two: more than an address is told of.
        patch.setattr(refusals, "WRONG_KEYS_BURST", 10_000)
        async with running(replace(config(tmp_path_factory.mktemp("engine")), endpoints=endpoints)) as engine:
            yield engine


def keys(engine: Running) -> dict[str, str]:
    ring = engine.server.keys.ring
    made = {role.value: ring.create(role.value, role)[1].reveal() for role in Role}
    revoked, key = ring.create("revoked", Role.ADMIN)
    ring.revoke(revoked.id)
    own = engine.server.keys.endpoint_key(engine.endpoint_id()).reveal()
    return {**made, "account": engine.key, "endpoint": own, "revoked": key.reveal()}


async def test_no_route_is_left_out() -> None:
    assert {route.auth for route in ROUTES} == {*PASSES, "worker", "none"}
    assert len(GUARDED) > 30


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")
async def test_every_route_takes_keys_of_its_roles_alone(engine: Running, route: Route) -> None:
    number = engine.endpoint_id() if (route.method, route.path) == ("GET", paths.ENDPOINT) else 999_999
    path = route.path.replace("{id}", str(number))
    query = {"view": "nonsense", "about": "nonsense", "endpoint": "nonsense"}  # before any stream
    body: dict[str, Any] = {"id": 999_999, "workergroup_id": 999_999, "worker_id": 999_999, "request_idx": 999_999}
    body |= {"endpoint": ENDPOINT, "dispatcher": "d", "queues": [], "change": {}, "overlap_s": 0.0, "cost": 1.0}
    if route.path == paths.GET_ENDPOINT_WORKERS:
        body["id"] = engine.endpoint_id()
    if route.path == paths.KEYS:
        body |= {"name": "x", "role": "nonsense"}
    async with aiohttp.ClientSession() as http:
        for kind, key in keys(engine).items():
            async with http.request(
                route.method, engine.url + path, params=query, json=body, headers={"Authorization": f"Bearer {key}"}
            ) as answer:
                seen = kind, answer.status, await answer.text()
                if kind in PASSES[route.auth]:
                    assert answer.status not in (401, 403), seen
                elif kind in ("operate", "read"):  # an operator's: what makes no sense is refused as that first
                    assert answer.status in (400, 403), seen
                else:
                    assert answer.status in (401, 403), seen
                assert kind != "revoked" or answer.status == 401, seen


async def test_a_clients_endpoint_key_is_all_that_it_needs_and_shows_it_nothing_else(engine: Running) -> None:
    own = keys(engine)["endpoint"]
    async with NullClient(engine.url, own) as client:
        assert [found.name for found in await client.endpoints()] == [ENDPOINT]
        assert await client.workers(ENDPOINT) == []
        with pytest.raises(EndpointUnknownError):
            await client.workers(OTHER)
        with pytest.raises(ClientError):
            await client.open(OTHER, deadline_s=5)
        with pytest.raises(NoWorkerInTimeError):
            await client.open(ENDPOINT, deadline_s=0.2)


async def test_a_key_for_some_endpoints_routes_to_these_and_is_shown_no_key_but_itself(engine: Running) -> None:
    ring = engine.server.keys.ring
    made, key = ring.create("ci", Role.ROUTE, (engine.endpoint_id(OTHER),))
    status, listed = await engine.call("GET", paths.ENDPOINTS, key=key.reveal())
    assert status == 200
    assert [(row["endpoint_name"], row["api_key"]) for row in listed["results"]] == [(OTHER, key.reveal())]
    ask = {"endpoint": ENDPOINT, "cost": 100, "request_idx": 0, "api_key": key.reveal()}
    assert (await engine.call("POST", paths.ROUTE, ask, key=key.reveal()))[0] == 403
    assert (await engine.call("POST", paths.ROUTE, {**ask, "endpoint": "none"}, key=key.reveal()))[0] == 403
    queue = {"queue": "q", "endpoint": OTHER}
    report = {"dispatcher": "d", "queues": [queue]}
    assert (await engine.call("POST", paths.DISPATCHERS, report, key=key.reveal()))[0] == 200
    report["queues"] = [queue, {**queue, "endpoint": ENDPOINT}]
    assert (await engine.call("POST", paths.DISPATCHERS, report, key=key.reveal()))[0] == 403
    ring.revoke(made.id)
    for path, body in ((paths.ROUTE, {**ask, "endpoint": OTHER}), (paths.DISPATCHERS, report)):
        assert (await engine.call("POST", path, body, key=key.reveal()))[0] == 401


async def test_a_list_of_keys_shows_none(engine: Running) -> None:
    admin = keys(engine)["admin"]
    _, listed = await engine.call("GET", paths.KEYS, key=admin)
    digests = [key.digest for key in engine.server.keys.ring.rows()]
    text = str(listed)
    assert not any(digest in text for digest in digests)
    assert admin not in text
    assert engine.key not in text


async def test_a_client_says_what_its_own_endpoints_requests_are_for_and_of_no_others(engine: Running) -> None:
    server, own = engine.server, keys(engine)["endpoint"]
    for request_idx, endpoint in ((5, ENDPOINT), (6, OTHER)):
        server.keeper.history.reservation(1.0, request_idx, engine.endpoint_id(endpoint), "waiting", 0)
    labels = [{"request_idx": request_idx, "job": "tile 17"} for request_idx in (5, 6, 7)]
    report = {"dispatcher": "d", "queues": [{"queue": "q", "endpoint": ENDPOINT}], "labels": labels}
    for path, body in ((paths.LABELS, {"labels": labels}), (paths.DISPATCHERS, report)):
        assert (await engine.call("POST", path, body, key=own))[0] == 200
        assert [*server.costs.labels] == [5]
        server.costs.labels.clear()
