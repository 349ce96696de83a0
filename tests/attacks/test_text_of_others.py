"""Attacks by text: what workers, consumers and servers say steers no terminal, forges no line and shows no secret.

S8 (answers without bound), S9 and S18 of the faults found.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from nullworker.cli.asking import ask
from nullworker.client import http as client_http
from nullworker.client.http import NoAnswerError, call
from nullworker.engine.api import views
from nullworker.engine.logs import LineFormatter
from nullworker.wire.paths import STATUS
from nullworker.wire.printable import printable, printable_lines, printable_values
from nullworker.wire.redaction import from_others
from nullworker.wire.types import EndpointBody
from nullworker.worker import logs as worker_logs
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.kit.servers import end_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: Clears the screen, sets the title, forges a line, hides text, and writes backwards.
HOSTILE = "\x1b[2J\x1b]0;owned\x07ready\r\nall is well\x9b31m \u202etxet\u202c \u200b\u2028 \ufeff\x00"
SECRETS = ("sk_live_" + "a1B2" * 20, "AKIAABCDEFGHIJKLMNOP", "f" * 40)


def is_shown(text: str) -> bool:
    return text.isprintable()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(config(tmp_path, quick(max_workers=0))) as engine:
        yield engine


async def test_a_workers_error_steers_no_terminal_and_shows_no_secret(engine: Running, tmp_path: Path) -> None:
    worker_id = 2**40 + 7
    token = engine.server.keys.join_token(engine.endpoint_id(), worker_id).reveal()
    error = f"{HOSTILE} postgres://user:hunter2@db/x {' '.join(SECRETS)} api_key=verysecret1"
    report = {"id": worker_id, "mtoken": token, "error_msg": error, "url": ""}
    async with aiohttp.ClientSession() as http, http.post(engine.url + "/worker_status/", json=report) as answer:
        assert answer.status == 200
    endpoint_id = engine.endpoint_id()
    endpoint_key = engine.server.keys.endpoint_key(endpoint_id).reveal()
    told = [
        await engine.call("GET", "/api/v0/status/"),
        await engine.call("GET", f"/api/v0/story/?about=worker%20{worker_id}"),
        await engine.call("GET", f"/api/v0/story/?about={ENDPOINT}"),
        await engine.call("POST", "/get_endpoint_workers/", {"id": endpoint_id}, key=endpoint_key),
        await engine.call("POST", "/get_endpoint_logs/", {"id": endpoint_id}),
    ]
    seen = 0
    for status, body in told:
        assert status == 200
        for text in _texts(body):
            assert all(is_shown(line) for line in text.split("\n")), text
            assert not any(secret in text for secret in (*SECRETS, "hunter2", "verysecret1")), text
            seen += "all is well" in text
    assert seen >= 3
    database = b"".join(path.read_bytes() for path in tmp_path.glob("engine.db*"))  # noqa: ASYNC240 - three small files
    assert b"hunter2" not in database


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts(part)]


async def test_a_hostile_engine_steers_no_terminal_of_the_command_line(unused_tcp_port: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.query.get("as") == "error":
            return web.json_response({"msg": HOSTILE}, status=400)
        return web.json_response({"complaints": [HOSTILE], HOSTILE: HOSTILE})

    app = web.Application()
    app.router.add_get(STATUS, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    try:
        url = f"http://127.0.0.1:{unused_tcp_port}"
        body = await asyncio.to_thread(ask, url, "a-key-of-some-length", STATUS)
        assert all(is_shown(text) for text in (*_texts(body), *body))
        with pytest.raises(Exception, match="owned") as caught:
            await asyncio.to_thread(lambda: ask(url, "a-key-of-some-length", STATUS, **{"as": "error"}))
        assert is_shown(str(caught.value))
    finally:
        await end_server(runner)


async def test_an_answer_without_end_is_not_read_and_a_redirect_not_followed(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_http, "ANSWER_BYTES_MAX", 1 << 20)
    asked: list[str] = []

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        if request.path == "/packed":
            answer.enable_compression()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b" " * 65_536)
        except (ConnectionError, OSError):
            return answer

    async def elsewhere(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPTemporaryRedirect("/caught")

    app = web.Application()
    app.router.add_post("/endless", endless)
    app.router.add_post("/packed", endless)
    app.router.add_post("/{any}", elsewhere)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    url = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        async with aiohttp.ClientSession() as http:
            for path in ("/endless", "/packed"):
                with pytest.raises(NoAnswerError, match="an answer of more than 1 MiB"):
                    await call(http, "POST", url + path, timeout_s=60, body={"secret": 1})
            answer = await call(http, "POST", url + "/moved", timeout_s=60, body={"secret": 1})
            assert (answer.status, asked) == (307, ["/moved"])
    finally:
        await end_server(runner)


def test_a_line_of_a_log_is_one_line() -> None:
    record = logging.makeLogRecord({"msg": "refused: %s", "args": (HOSTILE,), "levelno": logging.WARNING})
    assert is_shown(LineFormatter().format(record))
    worker_log = worker_logs._Redacting("")
    assert is_shown(worker_log.format(logging.makeLogRecord({"msg": "%s", "args": (HOSTILE,)})))


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\u202eb", "a\u200bb", "a\x9bb", "a\nb", "\ufeffa", "a\u2066b"])
def test_a_name_has_no_character_that_is_not_seen(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"endpoint_name": name}, EndpointBody)


@given(st.text())
def test_whatever_text_is_printable_and_stays_so(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert from_others(text).isprintable()
    assert [line.isprintable() for line in printable_lines(text).split("\n")] == [True] * (text.count("\n") + 1)
    json.dumps(shown).encode()


def test_text_that_is_printable_is_left_as_it_is() -> None:
    assert printable("naïve 工人 🙂 ok") == "naïve 工人 🙂 ok"
    assert printable("a\tb\nc\x1b\xa0d\u202e\U000e0001") == "a\\tb\\nc\\x1b d\\u202e\\U000e0001"
    assert printable_values({"a\n": [1, None, "b\x00", {"c": 1.5}]}) == {"a\\n": [1, None, "b\\x00", {"c": 1.5}]}


def test_the_end_of_a_workers_log_steers_no_terminal_and_shows_no_secret(tmp_path: Path) -> None:
    """S18: every reader of the page sees it, also what a consumer printed."""
    log = tmp_path / "worker.log"
    secret = "sk-" + "a1b2" * 25
    filler = "x" * views.LOG_BYTES
    log.write_text(f"{filler}Bearer {secret}\nget https://user:pass-word@host/\n\x1b[2Jkey={'ab' * 32}\nend\n")
    lines = views._log_tail(log.read_bytes()[-views.LOG_BYTES :])
    text = "\n".join(lines)
    assert lines[-1] == "end"
    assert "\x1b" not in text
    for part in (secret, secret[-40:], "pass-word", "ab" * 32):
        assert part not in text
    # A line whose beginning is cut off, and with it what its secret is recognised by, is left out.
    log.write_text(f"Authorization: Basic dXNl{'c' * views.LOG_BYTES}\nend\n")
    assert views._log_tail(log.read_bytes()[-views.LOG_BYTES :]) == ["end"]
