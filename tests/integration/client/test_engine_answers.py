"""What an engine's answers mean."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from nullworker.client import engine_client
from nullworker.client.engine_client import EngineClient
from nullworker.client.errors import (
    ClientError,
    EndpointUnknownError,
    EngineRefusedError,
    EngineUnreachableError,
    KeyRefusedError,
)
from nullworker.client.instances import find_instance
from nullworker.client.models import Endpoint, EndpointInfo
from tests.kit.client_stubs import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.kit.authority import Authority

ENDPOINT = Endpoint(7, "null-test", "the-endpoints-own-key")
ROW = {"id": 7, "endpoint_name": "null-test", "api_key": "the-endpoints-own-key"}
LISTED = (200, json.dumps({"results": [ROW]}))
BODIES = ('{"success": false, "error": "e", "msg": "So it is."}', '{"error": "So it is."}', "So it is.")


class ScriptedEngine(Server):
    """Has a certificate, and answers everything else in turn with what it was told to."""

    def __init__(self, certificate: bytes) -> None:
        super().__init__()
        self.certificate = certificate
        self.answers: list[tuple[int, str]] = []
        self.asked: list[str] = []
        self.location = ""

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/static/jvastai_root.cer", self._root), web.route("*", "/{path:.*}", self._answer)]

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(body=self.certificate)

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        status, text = self.answers.pop(0)
        return web.Response(status=status, text=text, headers={"Location": self.location} if self.location else {})


@pytest.fixture
async def engine(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedEngine]:
    monkeypatch.setattr(engine_client, "BACKOFF_MAX_S", 0.0)
    engine = ScriptedEngine(authority.pem)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def client(engine: ScriptedEngine) -> AsyncIterator[EngineClient]:
    """Connected to ``engine``."""
    client = EngineClient(find_instance(engine.url), "the-account-key", random.Random(1))
    await client.connect()
    yield client
    await client.close()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_what_passes_by_itself_is_an_engine_that_cannot_be_reached_now(
    engine: ScriptedEngine, client: EngineClient, status: int
) -> None:
    """It is tried again by the caller; nothing has been heard of an engine yet."""
    engine.answers = [(status, '{"success": false, "error": "e", "msg": "So it is."}')]
    with pytest.raises(EngineUnreachableError, match=f"HTTP {status}: So it is"):
        await client.route(ENDPOINT, 100, 0)
    assert not client.heard


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, EngineRefusedError),
        (401, KeyRefusedError),
        (403, KeyRefusedError),
        (404, EndpointUnknownError),
        (413, EngineRefusedError),
        (422, EngineRefusedError),
    ],
)
@pytest.mark.parametrize("body", BODIES)
async def test_a_refusal_is_for_good_and_carries_the_engines_sentence(
    engine: ScriptedEngine, client: EngineClient, status: int, kind: type[ClientError], body: str
) -> None:
    """Of a JSON body, ``msg`` or ``error``; of anything else, its text."""
    engine.answers = [(status, body)]
    with pytest.raises(kind) as raised:
        await client.route(ENDPOINT, 100, 0)
    assert type(raised.value) is kind
    assert "So it is" in str(raised.value) or kind is EndpointUnknownError


async def test_a_redirect_is_not_followed_and_says_where_to(engine: ScriptedEngine, client: EngineClient) -> None:
    """The key would be sent there."""
    engine.location = "https://e/route/"
    engine.answers = [(307, "")]
    with pytest.raises(EngineRefusedError, match="HTTP 307: it is at https://e/route/"):
        await client.route(ENDPOINT, 100, 0)


async def test_an_answer_that_is_no_json_may_be_one_the_next_time(engine: ScriptedEngine, client: EngineClient) -> None:
    """A proxy's page, while the engine behind it starts."""
    engine.answers = [(200, "<html>starting</html>")]
    with pytest.raises(EngineUnreachableError, match="no JSON: <html>starting"):
        await client.route(ENDPOINT, 100, 0)


@pytest.mark.parametrize("body", ["[]", "null", '{"request_idx": 1, "url": 5}'])
async def test_an_answer_that_is_not_understood_is_for_good(
    engine: ScriptedEngine, client: EngineClient, body: str
) -> None:
    """It will be the same next time."""
    engine.answers = [(200, body)]
    with pytest.raises(EngineRefusedError, match="its answer"):
        await client.route(ENDPOINT, 100, 0)


async def test_without_a_url_it_waits_and_with_one_the_whole_answer_is_for_the_worker(
    engine: ScriptedEngine, client: EngineClient
) -> None:
    """A number that is none is 0, and what the engine adds is passed on."""
    engine.answers = [
        (200, '{"request_idx": 3, "reason": "starting"}'),
        (200, '{"request_idx": true, "reason": 7}'),
        (200, '{"request_idx": 3, "url": "http://w", "grant": "g"}'),
    ]
    waiting = await client.route(ENDPOINT, 100, 0)
    assert (waiting.request_idx, waiting.auth_data, waiting.reason) == (3, None, "starting")
    waiting = await client.route(ENDPOINT, 100, 3)
    assert (waiting.request_idx, waiting.auth_data, waiting.reason) == (0, None, "")
    granted = await client.route(ENDPOINT, 100, 3)
    assert granted.auth_data == {"request_idx": 3, "url": "http://w", "grant": "g"}


class TestListOfEndpoints:
    async def test_it_is_asked_for_five_times_while_the_engine_cannot_serve(
        self, engine: ScriptedEngine, client: EngineClient
    ) -> None:
        """As the SDK does."""
        engine.answers = [(503, "")] * 4 + [(200, '{"success": true, "results": []}')]
        assert await client.list_endpoints() == []
        assert client.heard
        engine.answers = [(503, "")] * 5
        with pytest.raises(EngineUnreachableError, match="HTTP 503"):
            await client.list_endpoints()
        assert engine.asked == ["GET /api/v0/endptjobs/"] * 10

    async def test_it_is_asked_for_once_until_an_endpoint_is_forgotten(
        self, engine: ScriptedEngine, client: EngineClient
    ) -> None:
        """Every name in it is remembered, and the key is not shown."""
        rows = [ROW, {**ROW, "id": 8, "endpoint_name": "other"}]
        engine.answers = [(200, json.dumps({"results": rows}))] * 2
        assert await client.find("null-test") == ENDPOINT
        assert (await client.find("other")).id == 8
        assert "own-key" not in repr(await client.find("other"))
        assert client.knows("other")
        client.forget("other")
        assert not client.knows("other")
        assert isinstance(await client.find("other"), EndpointInfo)
        assert len(engine.asked) == 2

    @pytest.mark.parametrize("body", ["[]", "null", '{"results": [{"id": 1}]}', '{"results": [5]}', '{"results": 5}'])
    async def test_a_list_that_is_none_is_not_understood(
        self, engine: ScriptedEngine, client: EngineClient, body: str
    ) -> None:
        """For good."""
        engine.answers = [(200, body)]
        with pytest.raises(EngineRefusedError, match="not understood"):
            await client.list_endpoints()

    async def test_a_server_without_one_is_no_engine(self, engine: ScriptedEngine, client: EngineClient) -> None:
        """And is not said to lack an endpoint."""
        engine.answers = [(404, "Not Found")]
        with pytest.raises(EngineRefusedError, match="HTTP 404"):
            await client.list_endpoints()


class TestListOfWorkers:
    async def test_what_a_row_leaves_out_is_nothing(self, engine: ScriptedEngine, client: EngineClient) -> None:
        """Vast's engine leaves out what a worker has not reported."""
        engine.answers = [LISTED, (200, '[{"id": 7}]')]
        (worker,) = await client.list_workers("null-test")
        assert (worker.id, worker.status, worker.cur_load, worker.loaded_at) == (7, "UNKNOWN", 0.0, 0.0)

    async def test_an_engine_that_cannot_tell_yet_is_no_failure(
        self, engine: ScriptedEngine, client: EngineClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Vast's says so of an endpoint that was made a moment ago."""
        engine.answers = [
            LISTED,
            (200, '{"error_msg": "Not yet"}'),
        ]
        assert await client.list_workers("null-test") == []
        assert "Not yet" in caplog.text

    @pytest.mark.parametrize("body", ["null", '[{"status": "Ready"}]', "[5]", '{"other": 1}'])
    async def test_rows_that_are_none_are_not_understood(
        self, engine: ScriptedEngine, client: EngineClient, body: str
    ) -> None:
        """For good."""
        engine.answers = [LISTED, (200, body)]
        with pytest.raises(EngineRefusedError, match="not understood"):
            await client.list_workers("null-test")
