"""The unmodified ``vastai`` client is the oracle: made by it and by ours, the same calls are the same bytes.

Both talk to a server that writes down what arrives and gives the answers of a script. What differs is listed in
`DIFFERENCES`, and nothing else may.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import vastai
from aiohttp import web
from vastai.utils import VERSION

from nullworker.client import NullClient
from nullworker.client.trust import load_context
from tests.kit.client_stubs import API_KEY, ENDPOINT_KEY, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kit.authority import Authority

ENDPOINT = "null-test"
COST, LIFETIME_S, PAYLOAD, ON_CLOSE = 100, 7.5, {"job": "ä-1"}, "http://127.0.0.1:9/closed"
WORKER_CALLS = ("/session/create", "/session/get", "/ping", "/session/end")

#: (path, part of the call, what the SDK sends, what we send): why.
DIFFERENCES = {
    ("every path", "User-Agent", f"vastai-sdk/{VERSION}", "nullworker"): "A server's log says which client it was.",
    ("/get_endpoint_workers/", "User-Agent", aiohttp.http.SERVER_SOFTWARE, "nullworker"): (
        "The SDK makes this call past its own function for calls, and so without its User-Agent."
    ),
    ("/session/create", "query", f"api_key={ENDPOINT_KEY}", ""): (
        "A worker knows its holder by auth_data and reads no key; its machine is a rented one, and URLs are logged."
    ),
    ("/session/create", "Authorization", f"Bearer {ENDPOINT_KEY}", None): "As the query of the same call.",
    ("/ping", "query", f"api_key={ENDPOINT_KEY}", ""): "As /session/create.",
    ("/ping", "Authorization", f"Bearer {ENDPOINT_KEY}", None): "As /session/create.",
    ("/session/get", "query", "api_key=", ""): "A key that is empty says nothing.",
    ("/session/get", "Authorization", "Bearer", None): "A key that is empty says nothing.",
    ("/session/end", "query", "api_key=", ""): "A key that is empty says nothing.",
    ("/session/end", "Authorization", "Bearer", None): "A key that is empty says nothing.",
}


@dataclass(frozen=True)
class Call:
    """One call as it arrived."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Script:
    """The answers of one run: to each path in turn, the last one for ever."""

    url: str
    left: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        granted = {"request_idx": 3, "url": self.url, "signature": "c2ln", "cost": COST, "endpoint": ENDPOINT}
        granted |= {"reqnum": 17, "grant": "of an engine of ours"}
        row = {"id": 7, "endpoint_name": ENDPOINT, "api_key": ENDPOINT_KEY, "user_id": 1, "created_at": 0.0}
        waiting = {"request_idx": 3, "endpoint": ENDPOINT, "status": "WAITING"}
        self.left = {
            "/api/v0/endptjobs/": [(200, {"success": True, "results": [row]})],
            # It waits, and the first worker that is named is occupied.
            "/route/": [(200, waiting), (200, waiting), (200, granted), (200, {**granted, "reqnum": 18})],
            "/session/create": [(429, {}), (201, {"session_id": "s-1", "expiration": 1e10})],
            "/session/get": [(200, {"session_id": "s-1", "auth_data": granted, "expiration": 1e10, "lifetime": 7.5})],
            "/ping": [(200, {"ok": True})],
            "/get_endpoint_workers/": [(200, [])],
            "/session/end": [(200, {"ended": True})],
        }

    def answer(self, path: str) -> tuple[int, Any]:
        """What is answered now."""
        answers = self.left[path]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Recorder(Server):
    """Engine and worker in one: writes down each call, and answers it by the script."""

    def __init__(self, certificate: bytes) -> None:
        super().__init__()
        self._root = certificate
        self.calls: list[Call] = []
        self.script: Script | None = None

    def begin(self) -> list[Call]:
        """The script from its beginning; the calls of this run."""
        self.script, self.calls = Script(self.url), []
        return self.calls

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self._take)]

    async def _take(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        self.calls.append(
            Call(request.method, request.path, request.rel_url.raw_query_string, headers, await request.read())
        )
        if request.path == "/static/jvastai_root.cer":
            return web.Response(body=self._root)
        assert self.script is not None
        status, body = self.script.answer(request.path)
        return web.json_response(body, status=status)


@pytest.fixture
async def recorder(authority: Authority) -> AsyncIterator[Recorder]:
    recorder = Recorder(authority.pem)
    await recorder.start()
    yield recorder
    await recorder.stop()


def sdk_of(url: str) -> Any:
    """The SDK, told where the server is; polling as fast as ours polls an engine that is not Vast's."""
    kind = type("Client", (vastai.Serverless,), {"SSL_CERT_URL": f"{url}/static/jvastai_root.cer"})
    return kind(API_KEY, autoscaler_url=url, webserver_url=url, max_poll_interval=0.2)


async def by_the_sdk(recorder: Recorder) -> list[Call]:
    calls = recorder.begin()
    async with sdk_of(recorder.url) as sdk:
        endpoint = await sdk.get_endpoint(ENDPOINT)
        session = await endpoint.session(
            cost=COST, lifetime=LIFETIME_S, on_close_route=ON_CLOSE, on_close_payload=PAYLOAD
        )
        assert await session.is_open()
        await session.request("/ping", {})
        await endpoint.get_workers()
        await session.close()
    return calls


async def by_ours(recorder: Recorder) -> list[Call]:
    calls = recorder.begin()
    async with NullClient(recorder.url, API_KEY) as client:
        reservation = await client.open(
            ENDPOINT, cost=COST, lifetime_s=LIFETIME_S, payload=PAYLOAD, on_close_route=ON_CLOSE
        )
        await reservation.stop_watching()  # the SDK does not look by itself
        assert await reservation.is_open()
        await reservation.ping()
        await client.workers(ENDPOINT)
        await reservation.release()
    return calls


def differences(theirs: Call, ours: Call) -> set[tuple[str, str, str | None, str | None]]:
    """Where two calls differ, in the form of `DIFFERENCES`."""
    parts = {"method": (theirs.method, ours.method), "path": (theirs.path, ours.path)}
    parts |= {"query": (theirs.query, ours.query), "body": (theirs.body.decode(), ours.body.decode())}
    found: set[tuple[str, str, str | None, str | None]] = {
        (theirs.path, part, one, other) for part, (one, other) in parts.items() if one != other
    }
    for name in {*theirs.headers, *ours.headers}:
        one, other = theirs.headers.get(name), ours.headers.get(name)
        if one != other:
            path = "every path" if one == f"vastai-sdk/{VERSION}" else theirs.path
            found.add((path, name, one, other))
    return found


async def test_the_same_calls_are_the_same_bytes_but_for_what_is_listed(recorder: Recorder) -> None:
    """From the certificate to the session's end: method, path, query, headers and body."""
    theirs, ours = await by_the_sdk(recorder), await by_ours(recorder)
    assert [call.path for call in ours] == [call.path for call in theirs]
    assert [call.path for call in ours if call.path not in WORKER_CALLS] == [
        "/static/jvastai_root.cer",
        "/api/v0/endptjobs/",
        *["/route/"] * 4,
        "/get_endpoint_workers/",
    ]
    found = set().union(*(differences(one, other) for one, other in zip(theirs, ours, strict=True)))
    assert found == set(DIFFERENCES)


async def test_an_engine_is_sent_the_key_and_a_worker_is_not(recorder: Recorder) -> None:
    """Neither the account's nor the endpoint's, in no part of the call."""
    for call in await by_ours(recorder):
        seen = f"{call.query} {call.headers} {call.body.decode()}"
        has_key = API_KEY in seen or ENDPOINT_KEY in seen
        assert has_key == (call.path not in (*WORKER_CALLS, "/static/jvastai_root.cer")), call.path


async def test_the_second_request_withdraws_the_first_grant(recorder: Recorder) -> None:
    """The number that the engine gave comes back with every call, also after a worker was occupied."""
    for run in (by_the_sdk, by_ours):
        asked = [json.loads(call.body)["request_idx"] for call in await run(recorder) if call.path == "/route/"]
        assert asked == [0, 3, 3, 3]


async def test_the_same_certificates_are_accepted_in_the_same_way(recorder: Recorder) -> None:
    """The usual authorities and the engine's own, with the name checked; only OpenSSL's strict mode is off."""
    async with sdk_of(recorder.url) as sdk:
        theirs = await sdk.get_ssl_context()
    ours = await load_context(f"{recorder.url}/static/jvastai_root.cer", recorder.url)
    for setting in ("check_hostname", "verify_mode", "verify_flags", "minimum_version", "maximum_version", "options"):
        assert getattr(ours, setting) == getattr(theirs, setting), setting
    assert ours.check_hostname
    assert set(ours.get_ca_certs(binary_form=True)) == set(theirs.get_ca_certs(binary_form=True))
