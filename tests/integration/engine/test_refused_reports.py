"""A worker is never given up because of what its messages say: the framework bounds nothing of what it writes there."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from nullworker.core.limits import ADOPTED_AT_ONCE, ADOPTED_MAX
from nullworker.engine.api.http import BODY_BYTES_MAX, WORKER_BODY_BYTES_MAX
from nullworker.engine.api.refusals import Kind
from nullworker.wire.tolerant import FOREIGN_FROM
from tests.integration.engine.kit import ENDPOINT, Running, config, invitation, quick, running
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nullworker.core.worker import Worker

pytestmark = [pytest.mark.promise("P2"), pytest.mark.asyncio(loop_scope="module")]

IN_FLIGHT = 1_500

#: A worker of the framework's own, with nothing of ours in it.
STOCK_WORKER = """
import contextlib, vastai

async def pong(**_):
    return {}

benchmark = vastai.BenchmarkConfig(dataset=[{}], runs=1, concurrency=1, do_warmup=False)
handler = vastai.HandlerConfig(route="/ping", benchmark_config=benchmark, remote_function=pong)
vastai.Worker(vastai.WorkerConfig(
    model_server_url="http://127.0.0.1", model_server_port=9, handlers=[handler], max_sessions=None,
    lifecycle=contextlib.nullcontext(),
)).run(host="127.0.0.1")
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(config(tmp_path_factory.mktemp("engine"), quick(max_workers=0))) as engine:
        yield engine


class Stock:
    """A stock worker that has joined, as its clients see it."""

    def __init__(self, engine: Running, variables: dict[str, str]) -> None:
        self.engine = engine
        self.worker_id = int(variables["CONTAINER_ID"])
        self.token = variables["MASTER_TOKEN"]
        self.url = f"http://127.0.0.1:{variables['WORKER_PORT']}"

    @property
    def known(self) -> Worker:
        return self.engine.server.driver.engine.state.workers[self.worker_id]

    async def open(self, request_idx: object, reqnum: int, cost: float = 100.0) -> dict[str, Any]:
        """Opens a session; what it returns ends it."""
        asked = {"request_idx": request_idx, "reqnum": reqnum, "cost": cost}
        auth_data = {**asked, "endpoint": ENDPOINT, "url": self.url, "signature": ""}
        body = json.dumps({"auth_data": auth_data, "payload": {"lifetime": 3600.0}})
        async with aiohttp.ClientSession() as http, http.post(self.url + "/session/create", data=body) as answer:
            assert answer.status == 201, await answer.text()
            session: dict[str, Any] = await answer.json()
            return {"session_id": session["session_id"], "session_auth": auth_data}

    async def end(self, session: dict[str, Any]) -> None:
        async with aiohttp.ClientSession() as http, http.post(self.url + "/session/end", json=session) as answer:
            assert answer.status == 200, await answer.text()

    def refusals(self) -> list[str]:
        decisions = self.engine.server.decisions.about(worker_id=self.worker_id)
        return [decision.reason for decision in decisions if decision.kind == "report_refused"]


@contextlib.asynccontextmanager
async def stock_worker(engine: Running, directory: Path) -> AsyncIterator[Stock]:
    variables = await invitation(engine)
    own = {"UNSECURED": "true", "WORKER_HTTP_PORT": str(free_port())}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOCK_WORKER, cwd=directory, env={**os.environ, **variables, **own},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    stock = Stock(engine, variables)
    try:
        await until(lambda: engine.workers.get(stock.worker_id) == "ready", "the stock worker is ready")
        yield stock
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.long
async def test_a_stock_worker_with_more_than_a_thousand_in_flight_is_heard(engine: Running, tmp_path: Path) -> None:
    async with stock_worker(engine, tmp_path) as stock:
        sessions = []
        for first in range(0, IN_FLIGHT, 50):
            several = (stock.open(10_000 + number, number) for number in range(first, first + 50))
            sessions += await asyncio.gather(*several)
        # The engine granted none of them: it knows that there are some, takes few over, and does not end the worker.
        listed = engine.server.refusals.counts
        await until(lambda: listed[Kind.LISTED] > IN_FLIGHT / 2, lambda: f"{len(stock.known.held)} are known")
        assert ADOPTED_AT_ONCE <= len(stock.known.held) <= ADOPTED_MAX
        assert (stock.known.state.value, stock.known.endable, stock.known.grantable) == ("held", False, False)
        for first in range(0, IN_FLIGHT, 50):
            await asyncio.gather(*(stock.end(each) for each in sessions[first : first + 50]))
        await until(lambda: not stock.known.held and stock.known.grantable, "all are over, and its next report says so")
        assert stock.refusals() == []
        assert stock.known.state.value == "ready"


async def test_what_its_clients_made_up_does_not_silence_a_stock_worker(engine: Running, tmp_path: Path) -> None:
    """Costs whose sum is infinite, and request numbers that are none."""
    async with stock_worker(engine, tmp_path) as stock:
        await stock.open(20_001, 1, cost=1.7e308)
        await stock.open(20_002, 2, cost=1.7e308)
        for number, request_idx in enumerate((None, "abc", -1)):
            await stock.open(request_idx, 10 + number)
        await until(lambda: len(stock.known.held) == 5, lambda: f"{stock.known.held} are known")
        assert sum(request_idx >= FOREIGN_FROM for request_idx in stock.known.held) == 3
        assert stock.refusals() == []


# ----------------------------------------------------------------------------------------- what stays refused is heard


async def send(engine: Running, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Sends a message that may be a large one."""
    data = io.BytesIO(json.dumps(body).encode())
    async with aiohttp.ClientSession() as http, http.post(engine.url + path, data=data) as answer:
        return answer.status, await answer.json()


async def joined(engine: Running) -> dict[str, Any]:
    """The identity of a worker that has joined by a report."""
    variables = await invitation(engine)
    identity = {"id": int(variables["CONTAINER_ID"]), "mtoken": variables["MASTER_TOKEN"]}
    report = {**identity, "loadtime": 1.0, "max_perf": 100.0, "url": f"http://127.0.0.1:{free_port()}"}
    assert (await engine.call("POST", "/worker_status/", report))[0] == 200
    return identity


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/worker_status/", {"url": "ftp://elsewhere"}, 400),
        ("/worker_status/", {"working_request_idxs": "none"}, 400),
        ("/worker_status/", {"cur_load": "much"}, 400),
        ("/worker_status/", {"version": "x" * WORKER_BODY_BYTES_MAX}, 413),
        ("/delete_requests/", {"requests": None}, 400),
        ("/delete_requests/", {"requests": [{}]}, 400),
    ],
)
async def test_a_message_that_is_refused_is_a_sign_of_life(
    engine: Running, path: str, fields: dict[str, Any], status: int
) -> None:
    identity = await joined(engine)
    worker = engine.server.driver.engine.state.workers[identity["id"]]
    body = {"worker_id": identity["id"], "mtoken": identity["mtoken"]} if "delete" in path else identity
    got, answer = await send(engine, path, {**body, **fields})
    assert got == status, answer
    assert worker.trust.refused_at > worker.trust.reported_at
    assert worker.trust.refusal == answer["msg"]


async def test_a_message_of_anyone_else_is_no_sign_of_life(engine: Running) -> None:
    identity = await joined(engine)
    worker = engine.server.driver.engine.state.workers[identity["id"]]
    for body in (
        {**identity, "mtoken": "wrong", "cur_load": "much"},
        {**identity, "mtoken": "wrong", "cur_load": 1.7e308},
        {**identity, "mtoken": "wrong", "version": "x" * BODY_BYTES_MAX},
    ):
        assert (await send(engine, "/worker_status/", body))[0] == 401
    assert worker.trust.refused_at == float("-inf")


async def test_an_exception_of_ours_at_a_report_is_no_fault_of_its_worker(
    engine: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await joined(engine)
    worker = engine.server.driver.engine.state.workers[identity["id"]]

    def fails(*_: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("nullworker.engine.api.client._check_url", fails)
    assert (await engine.call("POST", "/worker_status/", {**identity, "url": "http://127.0.0.1:1"}))[0] == 500
    assert worker.trust.refusal == "the engine failed at it (ZeroDivisionError: planted)"


async def test_a_list_of_what_is_finished_may_be_long_and_one_that_is_too_long_is_not_sent_for_ever(
    engine: Running,
) -> None:
    identity = await joined(engine)
    body = {"worker_id": identity["id"], "mtoken": identity["mtoken"]}
    entry = {"request_idx": 1, "success": True, "status": "Success", "entered_queue_at": 1764230400.123456}
    many = BODY_BYTES_MAX // len(json.dumps(entry)) + 1_000
    assert (await send(engine, "/delete_requests/", {**body, "requests": [entry] * many}))[0] == 200
    assert (await send(engine, "/delete_requests/", {**body, "requests": [entry] * (9 * many)}))[0] == 200
    wrong = {**body, "mtoken": "wrong", "requests": [entry] * many}
    assert (await send(engine, "/delete_requests/", wrong))[0] == 401
