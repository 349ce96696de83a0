"""Each kind of answer that a handler may give, and its metrics, through the application and the middleware."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.test import Client

from nullworker.classic import app as application
from nullworker.classic import legacy_log_watch
from nullworker.classic.auth_middleware import AuthMiddleware
from nullworker.classic.fair_lock import FairLock
from nullworker.classic.hooks import Metrics
from nullworker.classic.in_flight import RequestStats
from nullworker.classic.loading import BackendError, load, make
from nullworker.classic.readiness import Readiness
from nullworker.classic.settings import Settings

if TYPE_CHECKING:
    from tests.unit.classic.conftest import WriteBackend


def serve(write_backend: WriteBackend, source: str, *, parallel: bool = False, **files: str) -> tuple[Client, Any]:
    """A client of the backend with that source, and its backend object."""
    root = write_backend("sample", backend=source, **files)
    loaded = load("sample", (root,))
    slot = application.BackendSlot(FairLock(parallel=parallel))
    backend = make(loaded.backend_class, "it", root, {})
    made = loaded.metrics_class() if loaded.metrics_class is not None else None
    slot.enter(backend, Metrics(made, is_driven=True))
    settings = Settings(backend="sample", roots=(root,), host="127.0.0.1", port=0)
    middleware = AuthMiddleware(
        application.build(loaded, slot, settings.body_bytes_max),
        handlers=loaded.handlers,
        settings=settings,
        stats=RequestStats(lambda: 0.0, lambda: None),
        trust=None,
    )
    client = Client(middleware)
    return client, backend


LOCAL = {"REMOTE_ADDR": "127.0.0.1"}

ANSWERS = """
    import sys
    from flask import Response, abort, jsonify, make_response

    class Backend:
        pass

    flask_dict = {"GET": {
        "text": lambda b, r: "hello",
        "bytes": lambda b, r: b"raw",
        "dict": lambda b, r: {"a": 1},
        "list": lambda b, r: [1, 2],
        "status": lambda b, r: ("made", 201),
        "headers": lambda b, r: ({"a": 1}, 202, {"X-Mine": "yes"}),
        "response": lambda b, r: Response("<p>", mimetype="text/html", status=203),
        "jsonify": lambda b, r: jsonify(a=1),
        "generator": lambda b, r: (part for part in ["x", "y"]),
        "empty": lambda b, r: ("", 204),
        "none": lambda b, r: None,
        "number": lambda b, r: 3,
        "exit": lambda b, r: sys.exit(3),
        "abort": lambda b, r: abort(409, "the queue is full"),
        "own": lambda b, r: abort(make_response("mine", 409)),
        "key": lambda b, r: r.args["missing"],
    }}
"""


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("text", 200, b"hello"),
        ("bytes", 200, b"raw"),
        ("dict", 200, b'{"a":1}\n'),
        ("list", 200, b"[1,2]\n"),
        ("status", 201, b"made"),
        ("headers", 202, b'{"a":1}\n'),
        ("response", 203, b"<p>"),
        ("jsonify", 200, b'{"a":1}\n'),
        ("generator", 200, b"xy"),
        ("empty", 204, b""),
        ("none", 500, b'{"error": "the handler of GET /none returned what is no answer; '),
        ("number", 500, b'{"error": "the handler of GET /number returned what is no answer; '),
        ("exit", 500, b'{"error": "the handler of GET /exit raised SystemExit; '),
        ("abort", 409, b'{"error": "the queue is full"}\n'),
        ("own", 409, b"mine"),
        ("key", 400, b"""{"error": "GET /key lacks 'missing'"}\n"""),
    ],
)
def test_whatever_flask_takes_is_an_answer(name: str, status: int, body: bytes, write_backend: WriteBackend) -> None:
    client, _ = serve(write_backend, ANSWERS)
    response = client.get(f"/{name}", environ_base=LOCAL)
    assert response.status_code == status
    assert response.get_data().startswith(body)


def test_a_handlers_headers_are_kept(write_backend: WriteBackend) -> None:
    client, _ = serve(write_backend, ANSWERS)
    assert client.get("/headers", environ_base=LOCAL).headers["X-Mine"] == "yes"


def test_one_backend_object_serves_all_requests(write_backend: WriteBackend) -> None:
    client, backend = serve(
        write_backend,
        """
        class Backend:
            def __init__(self, *args, **kwargs):
                self.count = 0

        def add(backend, request):
            backend.count += request.json["amount"]
            return "added"

        flask_dict = {"POST": {"add": add}}
        """,
    )
    for _ in range(3):
        client.post("/add", json={"amount": 2}, environ_base=LOCAL)
    assert backend.count == 6


#: Each handler says that it is in, and stays until both are (or it is clear that they never will be).
MEETING = """
    import threading

    class Backend:
        def __init__(self):
            self.barrier = threading.Barrier(2)

    def meet(backend, request):
        try:
            backend.barrier.wait(request.args.get("patience", type=float))
        except threading.BrokenBarrierError:
            return "alone"
        return "together"

    flask_dict = {"GET": {"meet": meet}}
"""


@pytest.mark.parametrize(("parallel", "answers"), [(True, {"together"}), (False, {"alone"})])
def test_handlers_run_one_at_a_time_unless_they_are_thread_safe(
    write_backend: WriteBackend, answers: set[str], *, parallel: bool
) -> None:
    client, _ = serve(write_backend, MEETING, parallel=parallel)
    got: set[str] = set()

    def ask() -> None:
        patience = "10" if parallel else "0.05"
        got.add(client.get(f"/meet?patience={patience}", environ_base=LOCAL).get_data(as_text=True))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert got == answers


def test_metrics_beside_the_backend_hear_of_each_request(write_backend: WriteBackend) -> None:
    client, backend = serve(
        write_backend,
        """
        from sample.metrics import told

        class Backend:
            told = told

        def work(backend, request):
            return "", request.json["status"]

        flask_dict = {"POST": {"work": work}}
        """,
        metrics="""
        told = []

        class Metrics:
            def start_req(self, request):
                told.append(("start", request["status"]))

            def finish_req(self, request):
                told.append(("finish", request["status"], request["time_elapsed"] >= 0))

            def error_req(self, request):
                told.append(("error", request["status"]))
        """,
    )
    client.post("/work", json={"status": 200}, environ_base=LOCAL)
    client.post("/work", json={"status": 503}, environ_base=LOCAL)
    assert backend.told == [("start", 200), ("finish", 200, True), ("start", 503), ("error", 503)]


def test_an_endpoint_that_the_log_watch_needs_is_refused_at_the_start(write_backend: WriteBackend) -> None:
    source = "class Backend: pass\nflask_dict = {'POST': {'report_done': lambda b, r: ''}}"
    loaded = load("taken", (write_backend("taken", backend=source),))
    slot = application.BackendSlot(FairLock())
    app = application.build(loaded, slot, 1000)
    with pytest.raises(BackendError, match="POST /report_done is the log watch's own"):
        legacy_log_watch.add(app, loaded.handlers, slot, Readiness([], lambda: 0.0, 100), "token")


def test_a_large_form_is_bounded_by_the_body_alone(write_backend: WriteBackend) -> None:
    client, _ = serve(
        write_backend,
        """
        class Backend: pass
        flask_dict = {"POST": {"form": lambda b, r: {"size": len(r.form["x"])}}}
        """,
    )
    part = '--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + "y" * 2_000_000 + "\r\n--b--\r\n"
    response = client.post("/form", environ_base=LOCAL, data=part, content_type="multipart/form-data; boundary=b")
    assert json.loads(response.get_data()) == {"size": 2_000_000}
