"""A classic backend as a process, without an engine: what the guide promises, and what goes wrong."""

from __future__ import annotations

import contextlib
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from tests.integration.classic_kit import (
    Certificate,
    ClassicProcess,
    get,
    post,
    write_backend,
)
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from pathlib import Path


def test_a_thousand_increments_of_twenty_clients_count_right() -> None:
    """`backend.count += amount` knows nothing of threads, and no count is lost."""
    with ClassicProcess("helloworld").wait_until_up() as server:

        def client(_: int) -> list[int]:
            with requests.Session() as http:
                return [http.post(f"{server.url}/increment", json={"amount": 3}).status_code for _ in range(50)]

        with ThreadPoolExecutor(20) as pool:
            answers = [status for statuses in pool.map(client, range(20)) for status in statuses]
        assert answers == [200] * 1000
        assert get(f"{server.url}/value").json() == {"value": 3000}
        assert server.end() == 0


#: Loses counts whenever two handlers are in at once: it reads, lets others in, and writes.
LOSING = """
    import time

    class Backend:
        def __init__(self, *args, **kwargs):
            self.count = 0

    def increment(backend, request):
        before = backend.count
        time.sleep(0.002)
        backend.count = before + request.json["amount"]
        return "Incremented"

    flask_dict = {"POST": {"increment": increment}, "GET": {"value": lambda b, r: {"value": b.count}}}
"""


@pytest.mark.parametrize(("arguments", "is_right"), [((), True), (("--thread-safe",), False)])
def test_it_is_the_turns_that_make_it_right(arguments: tuple[str, ...], tmp_path: Path, *, is_right: bool) -> None:
    """A backend that is declared thread-safe and is not loses counts; with turns it does not."""
    root = write_backend(tmp_path, "losing", backend=LOSING)
    with ClassicProcess("losing", "--path", str(root), *arguments).wait_until_up() as server:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: post(f"{server.url}/increment", json={"amount": 1}), range(100)))
        assert (get(f"{server.url}/value").json() == {"value": 100}) is is_right


def test_bad_input_is_that_requests_alone() -> None:
    with ClassicProcess("helloworld").wait_until_up() as server:
        json_type = {"Content-Type": "application/json"}
        for response, status, message in (
            (
                post(f"{server.url}/increment", data="{", headers=json_type),
                400,
                "the body of POST /increment is not JSON",
            ),
            (post(f"{server.url}/increment", data="amount=3"), 415, "not declared as JSON"),
            (post(f"{server.url}/increment", json={"wrong": 3}), 500, "the handler of POST /increment raised KeyError"),
            (post(f"{server.url}/increment", json={"amount": "x"}), 500, "raised TypeError"),
            (post(f"{server.url}/nowhere", json={}), 404, "there is no endpoint /nowhere"),
            (requests.delete(f"{server.url}/value", timeout=HANG_S), 405, "/value takes GET, not DELETE"),
        ):
            assert response.status_code == status
            assert message in response.json()["error"]
        assert get(f"{server.url}/value").json() == {"value": 0}
        assert "KeyError: 'amount'" in server.said
        assert server.end() == 0


def test_a_body_over_the_bound_is_refused_whatever_its_kind() -> None:
    with ClassicProcess("helloworld", env={"BACKEND_BODY_BYTES_MAX": "2000"}).wait_until_up() as server:
        assert post(f"{server.url}/increment", json={"amount": 3, "x": "y" * 1900}).status_code == 200
        assert post(f"{server.url}/increment", json={"amount": 3, "x": "y" * 2000}).status_code == 413
        pieces = (b"x" * 500 for _ in range(10))
        assert post(f"{server.url}/increment", data=pieces).status_code == 413
        assert get(f"{server.url}/value").json() == {"value": 3}


def test_half_a_request_holds_up_no_other() -> None:
    with ClassicProcess("helloworld", env={"BACKEND_THREADS": "1"}).wait_until_up() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(b"POST /increment HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
            assert get(f"{server.url}/value").json() == {"value": 0}
        assert server.end() == 0


def test_a_client_that_hangs_up_in_the_line_is_not_served(tmp_path: Path) -> None:
    """Its client would not read the answer, so its handler does not run."""
    root = write_backend(
        tmp_path,
        "slow",
        backend="""
            import os, time

            class Backend:
                def __init__(self):
                    self.ran = []

            def work(backend, request):
                backend.ran.append(request.args["name"])
                print("in:", backend.ran, flush=True)
                while not os.path.exists(os.environ["GO"]):
                    time.sleep(0.01)
                return {"ran": backend.ran}

            flask_dict = {"GET": {"work": work}}
        """,
    )
    go = tmp_path / "go"
    with ClassicProcess("slow", "--path", str(root), env={"GO": str(go)}).wait_until_up() as server:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(get, f"{server.url}/work?name=first")
            server.wait_for("in: ['first']")
            with socket.create_connection(("127.0.0.1", server.port)) as gone:
                gone.sendall(b"GET /work?name=gone HTTP/1.1\r\nHost: localhost\r\n\r\n")
            third = pool.submit(get, f"{server.url}/work?name=third")
            go.touch()
            assert first.result(HANG_S).json() == {"ran": ["first"]}
            assert third.result(HANG_S).json()["ran"] == ["first", "third"]
        assert server.end() == 0


class TestEnding:
    def test_what_is_being_answered_is_let_out(self, tmp_path: Path) -> None:
        root = write_backend(
            tmp_path,
            "slow",
            backend="""
                import time

                class Backend:
                    pass

                def work(backend, request):
                    print("handling", flush=True)
                    time.sleep(1)
                    return "x" * 1_000_000

                flask_dict = {"GET": {"work": work}}
            """,
        )
        with ClassicProcess("slow", "--path", str(root)).wait_until_up() as server:
            with ThreadPoolExecutor(2) as pool:
                first = pool.submit(get, f"{server.url}/work")
                server.wait_for("handling\n")
                second = pool.submit(get, f"{server.url}/work")
                server.process.send_signal(signal.SIGTERM)
                assert len(first.result(HANG_S).content) == 1_000_000
                with contextlib.suppress(requests.ConnectionError):  # it came when the server listened no more
                    assert second.result(HANG_S).status_code == 503
            assert server.wait() == 0
            assert server.said.count("handling\n") == 1

    def test_told_twice_it_ends_at_once(self, tmp_path: Path) -> None:
        root = write_backend(
            tmp_path,
            "stuck",
            backend="""
                import threading

                class Backend:
                    pass

                def work(backend, request):
                    print("handling", flush=True)
                    threading.Event().wait()

                flask_dict = {"GET": {"work": work}}
            """,
        )
        with ClassicProcess("stuck", "--path", str(root), env={"BACKEND_GRACE_S": "3600"}).wait_until_up() as server:
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b"GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n")
                server.wait_for("handling\n")
                server.process.send_signal(signal.SIGINT)
                server.wait_for("a second signal ends them now")
                server.process.send_signal(signal.SIGINT)
                assert server.wait() == 130
            assert "are cut off" in server.said

    def test_threads_of_the_backend_that_never_end_hold_up_nothing(self, tmp_path: Path) -> None:
        root = write_backend(
            tmp_path,
            "busy",
            backend="""
                import threading, time

                class Backend:
                    def __init__(self):
                        threading.Thread(target=self.loop, name="the old update loop").start()

                    def loop(self):
                        while True:
                            time.sleep(10)

                flask_dict = {"GET": {"x": lambda b, r: "x"}}
            """,
        )
        with ClassicProcess("busy", "--path", str(root)).wait_until_up() as server:
            assert server.end() == 0
            assert "cut off: the old update loop" in server.said

    def test_a_backend_that_is_still_being_made_ends_too(self, tmp_path: Path) -> None:
        root = write_backend(
            tmp_path,
            "loading",
            backend="""
                import time

                class Backend:
                    def __init__(self):
                        print("loading", flush=True)
                        try:
                            time.sleep(3600)
                        except Exception:
                            time.sleep(3600)

                flask_dict = {"GET": {"x": lambda b, r: ""}}
            """,
        )
        with ClassicProcess("loading", "--path", str(root)) as server:
            server.wait_for("loading\n")
            assert get(f"{server.url}/x").status_code == 503
            assert server.end() == 0


def test_with_ssl_clients_verify_the_certificate_and_nothing_unsigned_comes_in(tmp_path: Path) -> None:
    files = Certificate.make(tmp_path)
    env = {
        "USE_SSL": "true",
        "INSTANCE_CERTIFICATE": str(files.certificate),
        "INSTANCE_KEY": str(files.key),
        "UNSECURED": "true",
    }
    with ClassicProcess("helloworld", env=env).wait_until_up() as server:
        url = f"https://127.0.0.1:{server.port}"
        large = {"amount": 3, "x": "y" * 3_000_000}
        assert post(f"{url}/increment", json=large, verify=str(files.root)).text == "Incremented"
        assert get(f"{url}/value", verify=str(files.root)).json() == {"value": 3}
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            plain.sendall(b"GET /value HTTP/1.1\r\n\r\n")
            assert b"value" not in plain.recv(1000)
        with socket.create_connection(("127.0.0.1", server.port)):
            assert server.end() == 0, "an idle connection does not delay the end"
    env.pop("UNSECURED")
    with ClassicProcess("helloworld", env=env).wait_until_up() as server:
        response = get(f"https://127.0.0.1:{server.port}/value", verify=str(files.root))
        assert response.status_code == 403


class TestLogWatch:
    """The log that another program writes decides; a classic one says so by POST, a new one by what it returns."""

    BACKEND = """
        class Backend:
            pass

        flask_dict = {"GET": {"x": lambda b, r: ""}}
    """

    def test_lines_are_read_as_they_come_and_metrics_hear(self, tmp_path: Path) -> None:
        root = write_backend(
            tmp_path,
            "watched",
            backend=self.BACKEND,
            metrics="""
                class Metrics:
                    def __init__(self, backend, **kwargs):
                        print("metrics of", type(backend).__name__, flush=True)

                    def report_loaded(self, facts):
                        print("heard:", sorted(facts.items()), flush=True)
            """,
            logwatch="""
                class LogWatch:
                    def handle_line(self, line):
                        if "READY" in line:
                            return {"loaded": True, "max_perf": 42}
            """,
        )
        log = tmp_path / "model.log"
        with ClassicProcess("watched", "--path", str(root), env={"MODEL_LOG": str(log)}).wait_until_up() as server:
            log.write_text("loading\nREADY\n")
            server.wait_for("heard: [('loaded', True), ('max_perf', 42)]")
            assert "metrics of Backend" in server.said
            assert server.end() == 0

    def test_a_classic_one_posts_to_the_server_beside_it(self, tmp_path: Path) -> None:
        root = write_backend(
            tmp_path,
            "classic",
            backend=self.BACKEND,
            metrics="""
                class Metrics:
                    def report_loaded(self, facts):
                        print("heard:", sorted(facts), flush=True)
            """,
            logwatch="""
                import os
                import requests

                class LogWatch:
                    def __init__(self, id, control_server_url, master_token):
                        self.body = {"id": id, "mtoken": master_token}
                        self.beside = f"http://0.0.0.0:{os.environ['AUTH_PORT']}"
                        self.control = control_server_url

                    def handle_line(self, line):
                        if "Connected" in line:
                            body = {**self.body, "loadtime": 3.0}
                            for url in (self.beside + "/report_loaded", self.control + "/worker_status/"):
                                print("answer:", requests.post(url, json=body).status_code, flush=True)
            """,
        )
        (tmp_path / "infer.log").write_text("Connected\n")
        env = {"SERVER_DIR": str(tmp_path)}
        with ClassicProcess("classic", "--path", str(root), env=env).wait_until_up() as server:
            server.wait_for("heard: ['id', 'loaded', 'loadtime']")
            server.wait_for("answer: 200", times=2)  # lines of its log may stand between the two
            outside = post(f"{server.url}/report_loaded", json={"mtoken": "guessed"})
            assert outside.status_code == 401
