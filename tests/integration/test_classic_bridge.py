"""A classic backend under an engine: reports without a line of its own, and serves the unmodified client.

`test_from_zero_and_back_through_the_real_client` needs an engine with an endpoint of one helloworld worker and no more
than `EngineUnderTest` says: the real one will do, and so will a bare one. The rest look at what a bare one is told.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest
from vastai import Serverless

from tests.integration.classic_engines import EngineUnderTest, RealEngine, ScalingEngine
from tests.integration.classic_kit import (
    Certificate,
    ClassicProcess,
    get,
    post,
    write_backend,
)
from tests.kit.stub_engine import OURS
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def engine(certificate: Certificate) -> AsyncIterator[ScalingEngine]:
    """An engine that behaves as Vast's: no features beyond its wire."""
    async with ScalingEngine(authority=certificate.authority).running() as engine:
        yield engine


@pytest.fixture
async def our_engine(certificate: Certificate) -> AsyncIterator[ScalingEngine]:
    """An engine that takes prompt reports and gives grants, as ours does."""
    async with ScalingEngine(authority=certificate.authority, says=OURS).running() as engine:
        yield engine


@pytest.fixture
def real_engine(tmp_path: Path) -> Iterator[RealEngine]:
    """The engine itself."""
    engine = RealEngine(tmp_path)
    yield engine
    engine.close()


@pytest.fixture(params=["engine", "our_engine", "real_engine"])
def either_engine(request: pytest.FixtureRequest) -> EngineUnderTest:
    engine: ScalingEngine | RealEngine = request.getfixturevalue(request.param)
    if isinstance(engine, ScalingEngine):
        engine.idle_s = 1.0
    return engine


async def worker_of(engine: ScalingEngine) -> ClassicProcess:
    """A worker that has reported itself ready."""
    worker = engine.start_worker()
    await until(lambda: engine.last.get("loadtime"), "the worker is ready")
    return worker


def client_of(engine: EngineUnderTest) -> Any:
    """The real client; where its certificate comes from is an attribute of its class, and no argument."""
    client = Serverless(engine.api_key, autoscaler_url=engine.url, webserver_url=engine.url)
    client.SSL_CERT_URL = engine.certificate_url
    return client


async def test_from_zero_and_back_through_the_real_client(either_engine: EngineUnderTest) -> None:
    """The endpoint has no worker; requests bring one up, it answers them, and it goes again."""
    engine = either_engine
    assert engine.running_workers() == 0
    async with client_of(engine) as client:
        endpoint = await client.get_endpoint(engine.endpoint_name)
        first = await endpoint.request("/increment", {"amount": 3})
        assert (first["ok"], first["response"]) == (True, "Incremented")
        answers = await asyncio.gather(*(endpoint.request("/increment", {"amount": 3}) for _ in range(9)))
        assert all(answer["ok"] for answer in answers)
        value = await endpoint.request("/value", {})
        assert value["response"] == {"value": 30}, "a client can only POST, and the GET handler was meant"
    await until(lambda: engine.running_workers() == 0, "the endpoint is back at zero")


async def test_each_request_is_told_from_its_coming_to_its_end(engine: ScalingEngine) -> None:
    async with client_of(engine) as client:
        endpoint = await client.get_endpoint(engine.endpoint_name)
        answer = await endpoint.request("/increment", {"amount": 3}, cost=42)
    await until(lambda: engine.ended, "its end is reported")
    [row] = engine.ended
    assert (row["request_idx"], row["status"], row["success"]) == (answer["request_idx"], "Success", True)
    assert 0 < row["entered_queue_at"] <= row["work_started_at"] <= row["work_completed_at"]
    await until(lambda: engine.last["num_requests_recieved"] == 1, "the status counts it")
    assert engine.last["cur_load"] == 0
    assert engine.last["max_perf"] == 100
    assert "seq" not in engine.last, "Vast's engine gets Vast's fields alone"
    assert sum(status["new_load"] for status in engine.statuses) == 42
    assert sum(status["cur_perf"] for status in engine.statuses) == 42


async def test_what_is_being_worked_on_is_load(engine: ScalingEngine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    root = write_backend(
        tmp_path,
        "slow",
        backend="""
            import os, time

            class Backend:
                pass

            def work(backend, request):
                while not os.path.exists(os.environ["GO"]):
                    time.sleep(0.01)
                return {"done": request.json}

            flask_dict = {"POST": {"work": work}}
        """,
    )
    engine.arguments, engine.env = ("slow", "--path", str(root)), {"GO": str(go)}
    async with client_of(engine) as client:
        endpoint = await client.get_endpoint(engine.endpoint_name)
        requests = []

        def are_working(count: int) -> bool:
            return bool(engine.last.get("num_requests_working") == count)

        for n in range(3):
            requests.append(endpoint.request("/work", {"n": n}, cost=10))
            await until(functools.partial(are_working, n + 1), "it is load, too")
        assert engine.last["cur_load"] == 30
        idxs = engine.last["working_request_idxs"]
        assert len(set(idxs)) == 3
        requests[2].cancel()
        await until(
            lambda: any(row["status"] == "Cancelled" for row in engine.ended), "the one that hung up is given up"
        )
        go.touch()
        assert [(await request)["response"] for request in requests[:2]] == [{"done": {"n": 0}}, {"done": {"n": 1}}]
    await until(lambda: len(engine.ended) == 3, "all have ended")
    assert sorted(row["status"] for row in engine.ended) == ["Cancelled", "Success", "Success"]
    assert {row["request_idx"] for row in engine.ended} == set(idxs)


async def test_ends_are_told_at_once_to_an_engine_that_takes_them(our_engine: ScalingEngine, tmp_path: Path) -> None:
    """Ten requests one after the other on a worker whose next tick is an hour away: each end is told all the same."""
    root = write_backend(
        tmp_path,
        "untimed",
        backend="""
            from nullworker.classic import reporting

            class Backend:
                pass

            def work(backend, request):
                reporting.TICK_S = 3600.0
                return "done"

            flask_dict = {"POST": {"work": work}}
        """,
    )
    our_engine.arguments = ("untimed", "--path", str(root))
    worker = await worker_of(our_engine)

    def has_ended(count: int) -> bool:
        return len(our_engine.ended) == count

    for number in range(1, 11):
        body = {"auth_data": our_engine.route_answer(number), "session_id": None, "payload": {}}
        assert (await asyncio.to_thread(post, worker.url + "/work", json=body)).status_code == 200
        await until(functools.partial(has_ended, number), "its end is told")
    numbers = [status["seq"] for status in our_engine.statuses if "seq" in status]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 1_600_000_000_000, "a new process under the same id goes on where the one before it was"


async def test_what_the_engine_did_not_send_is_refused(our_engine: ScalingEngine, tmp_path: Path) -> None:
    """Not from loopback: nothing is let in without signature and grant; the books stay empty."""
    worker = await worker_of(our_engine)
    good = our_engine.route_answer(1)
    for auth_data, what in (
        ({**good, "signature": our_engine.key.sign("http://127.0.0.1:1")}, "signature"),
        ({**good, "url": "http://127.0.0.1:1", "signature": our_engine.key.sign("http://127.0.0.1:1")}, "url"),
        ({**good, "request_idx": 2}, "grant"),
        ({key: value for key, value in good.items() if key != "grant"}, "grant"),
    ):
        body = {"auth_data": auth_data, "session_id": None, "payload": {"amount": 1}}
        answer = await asyncio.to_thread(post, worker.url + "/increment", json=body)
        assert answer.status_code == 401
        assert what in answer.json()["error"]
    headers = {"X-Forwarded-For": "203.0.113.5"}
    outside = await asyncio.to_thread(post, worker.url + "/increment", json={"amount": 1}, headers=headers)
    assert outside.status_code == 401
    assert (await asyncio.to_thread(get, worker.url + "/value")).json() == {"value": 0}
    assert our_engine.last["num_requests_recieved"] == 0


async def test_the_client_is_told_that_there_are_no_sessions(engine: ScalingEngine) -> None:
    async with client_of(engine) as client:
        endpoint = await client.get_endpoint(engine.endpoint_name)
        with pytest.raises(Exception, match="Failed to create session"):
            await endpoint.session()
    await until(lambda: engine.ended, "the engine hears that it came to nothing")
    assert engine.ended[0]["status"] == "Error"


async def test_a_handler_that_raises_is_an_error_and_the_worker_goes_on(engine: ScalingEngine) -> None:
    async with client_of(engine) as client:
        endpoint = await client.get_endpoint(engine.endpoint_name)
        failed = await endpoint.request("/increment", {"wrong": 3}, retry=False)
        assert (failed["status"], failed["ok"]) == (500, False)
        assert "the handler of POST /increment raised KeyError" in failed["response"]["error"]
        unknown = await endpoint.request("/nowhere", {})
        assert unknown["status"] == 404
        assert (await endpoint.request("/increment", {"amount": 3}))["ok"]
    await until(lambda: len(engine.ended) == 3, "all have ended")
    assert [row["status"] for row in engine.ended] == ["Error", "Error", "Success"]
    assert engine.last["error_msg"] == ""


async def test_over_tls_with_the_engines_certificate(engine: ScalingEngine, certificate: Certificate) -> None:
    engine.env = {
        "USE_SSL": "true",
        "INSTANCE_CERTIFICATE": str(certificate.certificate),
        "INSTANCE_KEY": str(certificate.key),
    }
    async with client_of(engine) as client:
        endpoint = await client.get_endpoint(engine.endpoint_name)
        answer = await endpoint.request("/increment", {"amount": 3})
        assert answer["ok"]
        assert answer["url"].startswith("https://127.0.0.1:")
    worker = engine.worker
    assert worker is not None
    unsigned = await asyncio.to_thread(get, f"https://127.0.0.1:{worker.port}/value", verify=str(certificate.root))
    assert unsigned.status_code == 401, "who comes by TLS has no address, and must be signed"


class TestReadiness:
    async def test_while_the_backend_is_being_made_the_engine_hears_that_it_loads(
        self, engine: ScalingEngine, tmp_path: Path
    ) -> None:
        go = tmp_path / "go"
        root = write_backend(
            tmp_path,
            "loading",
            backend="""
                import os, time

                class Backend:
                    max_perf = 5.0

                    def __init__(self, container_id, master_token, control_server_url, send_data):
                        assert (container_id, send_data) == ("17", False)
                        while not os.path.exists(os.environ["GO"]):
                            time.sleep(0.01)

                flask_dict = {"GET": {"x": lambda b, r: "x"}}
            """,
        )
        engine.arguments, engine.env = ("loading", "--path", str(root)), {"GO": str(go)}
        worker = engine.start_worker()
        await until(lambda: engine.last, "it reports while it loads")
        assert engine.last["loadtime"] == 0
        body = {"auth_data": engine.route_answer(1), "session_id": None, "payload": {}}
        early = await asyncio.to_thread(post, worker.url + "/x", json=body)
        assert early.status_code == 503
        go.touch()
        await until(lambda: engine.last["loadtime"] > 0, "it is ready")
        assert engine.last["max_perf"] == 5
        await until(lambda: engine.ended, "the early one is told")
        assert engine.ended[0]["status"] == "Rejected"

    async def test_a_log_watch_decides_when_the_model_is_there_and_when_it_is_gone(
        self, engine: ScalingEngine, tmp_path: Path
    ) -> None:
        root = write_backend(
            tmp_path,
            "watched",
            backend="class Backend: pass\nflask_dict = {'GET': {'x': lambda b, r: 'x'}}",
            logwatch="""
                class LogWatch:
                    def handle_line(self, line):
                        if "ready" in line:
                            return {"loaded": True, "max_perf": 42}
                        if "CUDA error" in line:
                            return {"error_msg": line.strip()}
            """,
            metrics="""
                class Metrics:
                    def fill_data(self, data):
                        data["max_capacity"] = 8
            """,
        )
        log = tmp_path / "model.log"
        engine.arguments, engine.env = ("watched", "--path", str(root)), {"MODEL_LOG": str(log)}
        engine.start_worker()
        await until(lambda: engine.last.get("max_capacity") == 8, "the metrics are told")
        assert engine.last["loadtime"] == 0
        log.write_text("model is ready\n")
        await until(lambda: engine.last["loadtime"] > 0, "the model is there")
        assert engine.last["max_perf"] == 42
        with log.open("a") as file:
            file.write("CUDA error: out of memory\n")
        await until(lambda: engine.last["error_msg"], "the model is gone")
        assert engine.last["error_msg"] == "CUDA error: out of memory"

    async def test_without_the_engines_key_it_is_not_ready_and_keeps_asking(self, engine: ScalingEngine) -> None:
        engine.key_is_there = False
        worker = engine.start_worker()
        await until(lambda: engine.last, "it reports")
        await asyncio.to_thread(worker.wait_for, "the engine's key could not be fetched")
        assert engine.last["loadtime"] == 0
        engine.key_is_there = True
        await until(lambda: engine.last["loadtime"] > 0, "it is ready")

    async def test_unsecured_needs_no_key(self, engine: ScalingEngine) -> None:
        engine.key_is_there, engine.env = False, {"UNSECURED": "true"}
        await worker_of(engine)


class TestTrouble:
    async def test_what_an_engine_did_not_take_is_told_when_it_is_back(self, engine: ScalingEngine) -> None:
        worker = await worker_of(engine)
        engine.takes_reports = False
        for number in range(1, 4):
            body = {"auth_data": engine.route_answer(number), "session_id": None, "payload": {"amount": 1}}
            assert (await asyncio.to_thread(post, worker.url + "/increment", json=body)).status_code == 200
        await asyncio.to_thread(worker.wait_for, "/delete_requests/: status 503")
        assert engine.ended == []
        engine.takes_reports = True
        await until(lambda: len(engine.ended) == 3, "the ends are told")
        assert [row["request_idx"] for row in engine.ended] == [1, 2, 3]
        assert worker.said.count("/delete_requests/: status 503") == 1, "each trouble is complained of once"

    async def test_the_first_address_that_answers_is_enough(self, engine: ScalingEngine) -> None:
        unused_port = free_port()
        engine.env = {"REPORT_ADDR": f"http://127.0.0.1:{unused_port},{engine.url}"}
        await worker_of(engine)

    @pytest.mark.parametrize(
        ("arguments", "env", "message"),
        [
            (("nothing-like-it",), {}, "there is no backend 'nothing-like-it'"),
            (("helloworld",), {"USE_SSL": "true", "INSTANCE_CERTIFICATE": "/no/such.crt"}, "there is no /no/such.crt"),
            (("helloworld",), {"UNSECURED": "perhaps"}, "UNSECURED is 'perhaps'"),
        ],
    )
    async def test_a_worker_that_does_not_come_up_says_why(
        self, arguments: tuple[str, ...], env: dict[str, str], message: str, engine: ScalingEngine
    ) -> None:
        engine.arguments, engine.env = arguments, env
        worker = engine.start_worker()
        await until(lambda: engine.last, "the engine is told")
        assert message in engine.last["error_msg"]
        assert engine.last["url"].endswith(f"://127.0.0.1:{worker.port}")
        assert await asyncio.to_thread(worker.wait) in (1, 2)

    async def test_a_backend_that_can_not_be_made_says_why(self, engine: ScalingEngine, tmp_path: Path) -> None:
        source = (
            "class Backend:\n    def __init__(self): raise MemoryError('no room')\nflask_dict = {'GET': {'x': print}}"
        )
        root = write_backend(tmp_path, "bad", backend=source.replace("print", "lambda b, r: ''"))
        engine.arguments = ("bad", "--path", str(root))
        worker = engine.start_worker()
        assert await asyncio.to_thread(worker.wait) == 1
        assert "could not be made: MemoryError: no room (backend.py, line 2)" in engine.last["error_msg"]

    async def test_no_token_is_in_what_it_says(self, our_engine: ScalingEngine) -> None:
        worker = await worker_of(our_engine)
        our_engine.takes_reports = False
        body = {"auth_data": our_engine.route_answer(1), "session_id": None, "payload": {"amount": 1}}
        await asyncio.to_thread(post, worker.url + "/increment", json=body)
        await asyncio.to_thread(worker.wait_for, "status 503")
        assert our_engine.token not in worker.said
        assert await asyncio.to_thread(worker.end) == 0
        assert our_engine.token not in worker.said


async def test_told_to_end_it_tells_the_engine_what_is_done(engine: ScalingEngine) -> None:
    worker = await worker_of(engine)
    body = {"auth_data": engine.route_answer(5), "session_id": None, "payload": {"amount": 1}}
    assert (await asyncio.to_thread(post, worker.url + "/increment", json=body)).status_code == 200
    assert await asyncio.to_thread(worker.end) == 0
    assert [row["request_idx"] for row in engine.ended] == [5]
