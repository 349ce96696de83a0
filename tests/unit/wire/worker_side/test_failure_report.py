import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from nullworker.wire.worker_side.failure_report import report

ENV = {
    "CONTAINER_ID": "7",
    "MASTER_TOKEN": "token",
    "WORKER_PORT": "3000",
    "VAST_TCP_PORT_3000": "40123",
    "PUBLIC_IPADDR": "10.0.0.9",
}


class Engine(HTTPServer):
    """Writes down what it is told."""

    told: list[tuple[str, dict[str, Any]]]
    status = 200


class _Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(("127.0.0.1", 0), _Handler) as server:
        server.told = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(engine: Engine) -> str:
    return f"http://127.0.0.1:{engine.server_port}"


def test_the_short_form_goes_to_the_first_address_that_takes_it(engine: Engine) -> None:
    env = ENV | {"REPORT_ADDR": f"nonsense,http://127.0.0.1:1, {address(engine)}/ ,{address(engine)}"}
    assert report(env, "Port 3000 is taken.")
    body = {"id": 7, "mtoken": "token", "version": "1.1.0", "error_msg": "Port 3000 is taken."}
    assert engine.told == [("/worker_status/", {**body, "url": "http://10.0.0.9:40123"})]


def test_the_url_is_empty_where_it_is_not_known(engine: Engine) -> None:
    assert report({"CONTAINER_ID": "7", "REPORT_ADDR": address(engine)}, "x")
    assert engine.told[0][1]["url"] == ""


def test_a_refusal_is_not_taken_for_an_answer(engine: Engine) -> None:
    engine.status = 401
    assert not report(ENV | {"REPORT_ADDR": address(engine)}, "x")


@pytest.mark.parametrize("env", [{}, ENV, ENV | {"REPORT_ADDR": "file:///etc/passwd"}, ENV | {"CONTAINER_ID": "x"}])
def test_where_there_is_nobody_to_tell_nothing_is_told(env: dict[str, str]) -> None:
    assert not report(env, "x")
