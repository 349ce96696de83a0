"""One GET to an engine, and what is said when that fails."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from nullworker.cli.asking import ask
from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], tuple[str, list[str]]]]:
    """Starts a server that gives one answer to everything; returns its URL and what it is asked."""
    servers: list[HTTPServer] = []

    def start(status: int, body: str) -> tuple[str, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(f"{self.path} {self.headers['Authorization']}")
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Not on stderr."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_answer_is_the_engines_object(answering: Callable[[int, str], tuple[str, list[str]]]) -> None:
    """Asked for with the key in the header and the query in the URL."""
    url, asked = answering(200, json.dumps({"a": 1}))
    assert ask(url, "the-key", "/api/v0/x/", endpoint="null local") == {"a": 1}
    assert asked == ["/api/v0/x/?endpoint=null+local Bearer the-key"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, '{"success": false, "msg": "Invalid key."}', "Invalid key."),
        (500, "{}", "The engine answered 500."),
        (200, "<html>", "is no nullworker engine"),
        (200, "[1]", "is no nullworker engine"),
    ],
)
def test_a_refusal_is_the_engines_sentence_or_ours(
    answering: Callable[[int, str], tuple[str, list[str]]], status: int, body: str, said: str
) -> None:
    """And never a traceback."""
    url, _ = answering(status, body)
    with pytest.raises(UserError, match=said):
        ask(url, "the-key", "/x")


def test_an_engine_that_is_not_there_is_named() -> None:
    """With what to do about it."""
    with pytest.raises(UserError, match=r"http://127.0.0.1:1 does not answer .*start one with nullworker engine"):
        ask("http://127.0.0.1:1", "the-key", "/x")


def test_an_engine_of_vasts_is_not_asked() -> None:
    """It knows none of these paths."""
    with pytest.raises(UserError, match="it is for engines of nullworker"):
        ask("prod", "the-key", "/x")


@pytest.mark.parametrize(
    ("given", "variable", "named"), [(None, "other", True), ("given", "other", False), ("given", None, False)]
)
def test_a_refused_key_that_came_from_the_environment_is_named(
    answering: Callable[[int, str], tuple[str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    variable: str | None,
    named: bool,
) -> None:
    """It counts more than the key of the engine on this machine, which would have been taken."""
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    if variable is not None:
        monkeypatch.setenv("VAST_API_KEY", variable)
    url, _ = answering(401, '{"msg": "The API key is not the account key."}')
    with pytest.raises(UserError, match="is not the account key") as refused:
        ask(url, given, "/status")
    assert ("It is the one in VAST_API_KEY: unset that" in str(refused.value)) is named
