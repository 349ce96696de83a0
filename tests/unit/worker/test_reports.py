import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from vastai.serverless.server.lib.data_types import ModelMetrics, RequestMetrics, SystemMetrics

from nullworker.wire.worker_clock import WorkerClock
from nullworker.worker.reports import HEARTBEAT_S, Reports
from tests.kit.servers import end_server


class Engine:
    """Writes down what it is told; ``answers`` are its next statuses, then 200."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.connections: set[Any] = set()
        self.answers: list[int] = []
        self.body = b""
        self.came = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def take(self, request: web.Request) -> web.Response:
        self.told.append((request.path, await request.json()))
        self.connections.add(request.transport)
        self.came.set()
        await self.may_answer.wait()
        return web.Response(status=self.answers.pop(0) if self.answers else 200, body=self.body)

    async def wait(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        while len(self.told) < count:
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 30)
        return self.told


def metrics() -> Any:
    """As the framework's Metrics, which reads its environment when it is made."""
    return SimpleNamespace(
        id=7,
        mtoken="token",
        version="1.1.0",
        url="http://127.0.0.1:3000",
        model_metrics=ModelMetrics.empty(),
        system_metrics=SystemMetrics.empty(),
        update_pending=True,
        last_metric_update=0.0,
    )


def request(request_idx: int, status: str = "Success") -> RequestMetrics:
    return RequestMetrics(request_idx=request_idx, reqnum=request_idx, workload=100.0, status=status, success=True)


@contextlib.asynccontextmanager
async def _running(heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[tuple[Engine, Any, Reports]]:
    engine, own = Engine(), metrics()
    app = web.Application()
    app.router.add_post("/{path:.*}", engine.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession() as http:
        addr = f"http://127.0.0.1:{runner.addresses[0][1]}"
        reports = Reports(http, own, lambda: addr, WorkerClock(lambda: 12.5), heartbeat_s=heartbeat_s)
        task = asyncio.ensure_future(reports.run())
        try:
            yield engine, own, reports
        finally:
            task.cancel()
            engine.may_answer.set()
    await end_server(runner)


@pytest.fixture
async def running() -> AsyncIterator[tuple[Engine, Any, Reports]]:
    async with _running() as parts:
        yield parts


Running = tuple[Engine, Any, Reports]


async def test_a_status_has_the_frameworks_fields_and_a_number(running: Running) -> None:
    engine, own, reports = running
    own.model_metrics.requests_working[5] = request(5)
    own.model_metrics.max_throughput = 100.0
    reports.wake()
    path, body = (await engine.wait(1))[0]
    assert path == "/worker_status/"
    assert body.pop("disk_usage") > 0
    assert body.pop("clock")
    assert body == {
        "id": 7,
        "mtoken": "token",
        "version": "1.1.0",
        "seq": 1,
        "clock_s": 12.5,
        "loadtime": 0.0,
        "cur_load": 100.0,
        "rej_load": 0.0,
        "new_load": 0.0,
        "error_msg": "",
        "max_perf": 100.0,
        "cur_perf": 0.0,
        "cur_capacity": 0,
        "max_capacity": 0,
        "num_requests_working": 1,
        "num_requests_recieved": 0,
        "additional_disk_usage": body["additional_disk_usage"],
        "working_request_idxs": [5],
        "url": "http://127.0.0.1:3000",
    }


async def test_what_is_finished_is_told_before_the_status_that_no_longer_lists_it(running: Running) -> None:
    engine, own, reports = running
    own.model_metrics.requests_deleting += [request(5), request(6, "Rejected")]
    reports.wake()
    told = await engine.wait(2)
    assert [path for path, _ in told] == ["/delete_requests/", "/worker_status/"]
    assert (told[0][1]["worker_id"], told[0][1]["seq"], told[1][1]["seq"]) == (7, 1, 2)
    assert [(r["request_idx"], r["status"]) for r in told[0][1]["requests"]] == [(5, "Success"), (6, "Rejected")]
    await reports.sent(30)
    assert own.model_metrics.requests_deleting == []


async def test_news_that_come_while_one_is_told_go_out_together_and_later(running: Running) -> None:
    engine, own, reports = running
    engine.may_answer.clear()
    reports.wake()
    await engine.wait(1)
    for request_idx in range(50):
        own.model_metrics.requests_working = {request_idx: request(request_idx)}
        reports.wake()
    engine.may_answer.set()
    told = await engine.wait(2)
    await reports.sent(30)
    assert [body["working_request_idxs"] for _, body in told] == [[], [49]]
    assert [body["seq"] for _, body in told] == [1, 2]


async def test_a_report_that_was_not_taken_is_sent_again_with_a_new_number(running: Running) -> None:
    engine, own, reports = running
    engine.answers = [500, 503]
    own.model_metrics.requests_deleting.append(request(5))
    reports.wake()
    told = await engine.wait(4)
    assert [(path, body["seq"]) for path, body in told] == [
        ("/delete_requests/", 1),
        ("/delete_requests/", 2),
        ("/delete_requests/", 3),
        ("/worker_status/", 4),
    ]


async def test_an_entry_that_came_meanwhile_is_not_lost_with_the_one_of_the_same_request(running: Running) -> None:
    engine, own, reports = running
    engine.may_answer.clear()
    own.model_metrics.requests_deleting.append(request(5, "Rejected"))
    reports.wake()
    await engine.wait(1)
    own.model_metrics.requests_deleting.append(request(5, "Rejected"))
    engine.may_answer.set()
    await engine.wait(2)
    await reports.sent(30)
    assert len(own.model_metrics.requests_deleting) == 1


async def test_what_was_told_is_not_pending_for_the_framework(running: Running) -> None:
    engine, own, reports = running
    own.model_metrics.workload_rejected = 100.0
    reports.wake()
    assert (await engine.wait(1))[0][1]["rej_load"] == 100.0
    await reports.sent(30)
    assert (own.update_pending, own.model_metrics.workload_rejected) == (False, 0)
    assert own.last_metric_update > 0


async def test_all_reports_share_one_connection(running: Running) -> None:
    engine, _, reports = running
    for _ in range(20):
        reports.wake()
        await reports.sent(30)
    assert len(engine.told) == 20
    assert len(engine.connections) == 1


async def test_a_status_with_a_number_goes_out_though_nothing_has_changed() -> None:
    """The framework's own heartbeats have none; one of ours at a time makes it keep quiet."""
    async with _running(heartbeat_s=0.01) as (engine, own, _):
        told = await engine.wait(3)
        assert [(path, body["seq"]) for path, body in told[:3]] == [("/worker_status/", seq) for seq in (1, 2, 3)]
        assert own.last_metric_update > 0.0
        assert not own.update_pending


async def test_nothing_is_wrong_with_the_frameworks_inside(running: Running) -> None:
    assert running[2].trouble() == ""


@pytest.mark.parametrize(
    "name",
    ["requests_deleting", "requests_working", "requests_recieved", "max_throughput", "error_msg", "workload_served"],
)
async def test_a_name_that_the_framework_lacks_is_found_before_the_first_report(running: Running, name: str) -> None:
    _, own, reports = running
    delattr(own.model_metrics, name)
    assert name in reports.trouble()


@pytest.mark.parametrize("name", ["update_pending", "last_metric_update", "url", "version", "system_metrics"])
async def test_so_is_one_of_the_metrics_themselves(running: Running, name: str) -> None:
    _, own, reports = running
    delattr(own, name)
    assert name in reports.trouble()


async def test_a_loading_time_that_the_framework_forgets_is_reported_on(running: Running) -> None:
    engine, own, reports = running
    own.system_metrics.model_loading_time = 1.5
    reports.wake()
    await engine.wait(1)
    own.system_metrics.model_loading_time = None
    reports.wake()
    assert [body["loadtime"] for _, body in await engine.wait(2)] == [1.5, 1.5]


async def test_a_status_has_what_else_is_to_be_told_and_its_answer_is_taken_in(running: Running) -> None:
    engine, _, reports = running
    taken: list[object] = []
    reports.more = lambda: {"orders_done": [{"id": 1, "refusal": ""}]}
    reports.on_answer = taken.append
    reports.wake()
    await reports.sent(30)
    engine.body = b'{"success": true, "orders": [{"id": 2}]}'
    reports.wake()
    await reports.sent(30)
    assert engine.told[-1][1]["orders_done"] == [{"id": 1, "refusal": ""}]
    assert taken == [{"success": True, "orders": [{"id": 2}]}]
