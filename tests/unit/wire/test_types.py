from __future__ import annotations

import dataclasses
import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nullworker.wire.errors import WireError
from nullworker.wire.types import (
    SECRET_FIELDS,
    Credentials,
    DeleteRequests,
    EndpointBody,
    EndpointList,
    EndpointRow,
    ErrorBody,
    GetLogs,
    GetWorkers,
    Logs,
    Removal,
    RouteReady,
    RouteRequest,
    RouteWaiting,
    UpdateWorkers,
    WorkergroupBody,
    WorkergroupList,
    WorkergroupRow,
    WorkerRow,
    WorkerStatus,
    WorkersUpdating,
    decode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ROW = EndpointRow(
    id=1,
    endpoint_name="null-local",
    api_key="k",
    user_id=0,
    created_at=1.5,
    min_load=0.0,
    min_cold_load=0.0,
    target_util=1.0,
    cold_mult=1.0,
    cold_workers=0,
    max_workers=16,
    max_queue_time=1.0,
    target_queue_time=0.5,
    inactivity_timeout=None,
    endpoint_state="active",
)


class Recorder:
    """A server that remembers each body it is sent, and answers with what it is told to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.answer: bytes = b'{"success": true, "results": []}'
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                recorder.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(recorder.answer)

            do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815 - the names that http.server calls

            def log_message(self, *args: object) -> None:
                """The test's output stays clean."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    @property
    def last(self) -> bytes:
        return self.bodies[-1]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture
def client(recorder: Recorder) -> Any:
    from vastai.api.client import VastClient

    return VastClient(api_key="the-key", server_url=f"http://127.0.0.1:{recorder.server.server_port}")


def test_the_command_lines_endpoint_bodies_decode(recorder: Recorder, client: Any) -> None:
    """What the real client sends, nulls and all, is taken."""
    from vastai.api import endpoints

    endpoints.create_endpoint(client, endpoint_name="a", cold_workers=0, inactivity_timeout=-1)
    body = decode(EndpointBody, recorder.last)
    assert (body.endpoint_name, body.cold_workers, body.inactivity_timeout, body.max_queue_time) == ("a", 0, -1, None)
    endpoints.update_endpoint(client, 7, endpoint_state="stopped")
    changed = decode(EndpointBody, recorder.last)
    assert (changed.endptjob_id, changed.endpoint_state, changed.min_load) == (7, "stopped", None)
    endpoints.delete_endpoint(client, 7)
    assert not decode(Removal, recorder.last).force
    endpoints.show_endpoints(client)
    assert decode(Credentials, recorder.last).api_key == "the-key"


def test_the_command_lines_workergroup_bodies_decode(recorder: Recorder, client: Any) -> None:
    from vastai.api import endpoints

    endpoints.create_workergroup(client, template_hash="null", endpoint_id=3)
    body = decode(WorkergroupBody, recorder.last)
    assert (body.template_hash, body.endpoint_id, body.launch_args) == ("null", 3, None)
    endpoints.update_workergroup(client, 9, gpu_ram=24.0, search_params="gpu_ram>=23")
    changed = decode(WorkergroupBody, recorder.last)
    assert (changed.autojob_id, changed.gpu_ram) == (9, 24.0)


def test_the_sdks_own_workergroup_body_decodes() -> None:
    from vastai.data.workergroup import WorkergroupConfig

    body = WorkergroupConfig(endpoint_id=1, template_hash="null", search_params={"gpu_ram": {"gte": 24}}).to_dict()
    assert decode(WorkergroupBody, json.dumps(body).encode()).search_params == {"gpu_ram": {"gte": 24}}


def test_the_command_lines_other_bodies_decode(recorder: Recorder, client: Any) -> None:
    from vastai.api import endpoints

    endpoints.get_endpt_logs(client, 5, tail=20)
    assert decode(GetLogs, recorder.last) == GetLogs(5, "the-key", 20)
    endpoints.get_wrkgrp_logs(client, 6)
    assert decode(GetLogs, recorder.last) == GetLogs(6, "the-key")
    endpoints.get_endpoint_workers(client, 5)
    assert decode(GetWorkers, recorder.last) == GetWorkers(5)
    endpoints.update_workers(client, 9, cancel=True)
    assert decode(UpdateWorkers, recorder.last) == UpdateWorkers(9, cancel_update=True, api_key="the-key")


def test_the_real_client_reads_our_answers(recorder: Recorder, client: Any) -> None:
    from vastai.api import endpoints
    from vastai.data.endpoint import EndpointData
    from vastai.serverless.client.worker import Worker

    recorder.answer = msgspec.json.encode(EndpointList([ROW]))
    assert endpoints.show_endpoints(client)[0]["endpoint_name"] == "null-local"
    assert EndpointData.from_dict(msgspec.to_builtins(ROW)).config.max_workers == 16
    recorder.answer = msgspec.json.encode(Logs(info0="one line"))
    assert endpoints.get_endpt_logs(client, 1)["info0"] == "one line"
    recorder.answer = msgspec.json.encode(WorkersUpdating(success=True, workers_to_update=4))
    assert endpoints.update_workers(client, 1) == {"success": True, "workers_to_update": 4}
    recorder.answer = msgspec.json.encode(WorkergroupList([WorkergroupRow(2, 1, "null-local", 0, 1.5)]))
    assert endpoints.show_workergroups(client)[0]["endpoint_id"] == 1
    assert Worker.from_dict(msgspec.to_builtins(WorkerRow(7, "Ready"))).status == "Ready"


def test_the_frameworks_report_decodes_whole() -> None:
    """Every field of the framework's report is one of ours, and what the Null PyWorker adds passes, too."""
    from vastai.serverless.server.lib.data_types import WorkerStatusData

    names = {field.name for field in dataclasses.fields(WorkerStatusData)}
    assert names | {"seq", "clock", "clock_s", "orders_done", "jobs"} == set(WorkerStatus.__struct_fields__)
    report = WorkerStatusData(
        id=7,
        mtoken="t",
        version="1.1.0",
        loadtime=0.5,
        cur_load=100.0,
        rej_load=0,
        new_load=100,
        error_msg="",
        max_perf=100.0,
        cur_perf=0,
        cur_capacity=0,
        max_capacity=0,
        num_requests_working=1,
        num_requests_recieved=3,
        additional_disk_usage=-0.5,
        disk_usage=10.0,
        working_request_idxs=[12],
        url="http://127.0.0.1:3000",
    )
    added = {"seq": 4, "clock": "a", "clock_s": 2.5, "jobs": [{"request_idx": 12, "job": "render-7"}]}
    found = decode(WorkerStatus, json.dumps(dataclasses.asdict(report) | added).encode())
    assert (found.id, found.cur_load, found.working_request_idxs, found.seq) == (7, 100.0, [12], 4)
    assert msgspec.to_builtins(found) == dataclasses.asdict(report) | added


def test_the_short_report_of_a_failed_start_decodes() -> None:
    body = b'{"id": 7, "mtoken": "t", "version": "0", "error_msg": "no backend", "url": ""}'
    assert decode(WorkerStatus, body).error_msg == "no backend"


def test_a_list_of_finished_requests_decodes() -> None:
    request = {
        "request_idx": 1,
        "success": True,
        "status": "Success",
        "entered_queue_at": 1.7e9,
        "work_started_at": 1.7e9,
        "work_completed_at": 0.0,
    }
    body = {"worker_id": 7, "mtoken": "t", "requests": [request]}
    found = decode(DeleteRequests, json.dumps(body).encode())
    assert (found.requests[0].request_idx, found.requests[0].status, found.seq) == (1, "Success", 0)


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        (RouteRequest, {}, "endpoint"),
        (RouteRequest, {"endpoint": "a" * 201}, "endpoint"),
        (RouteRequest, {"endpoint": "a", "cost": -1}, "cost"),
        (RouteRequest, {"endpoint": "a", "cost": 1.1e9}, "cost"),
        (RouteRequest, {"endpoint": "a", "request_idx": 2**53}, "request_idx"),
        (RouteRequest, {"endpoint": "a", "request_idx": -1}, "request_idx"),
        (RouteRequest, {"endpoint": "a", "replay_timeout": 0}, "replay_timeout"),
        (WorkerStatus, {"id": 1}, "mtoken"),
        (WorkerStatus, {"id": 1, "mtoken": "t", "max_perf": float("nan")}, "max_perf"),
        (DeleteRequests, {"worker_id": 1, "mtoken": "t", "requests": [{"request_idx": 1}]}, "requests[0].status"),
        (EndpointBody, {"endpoint_name": "a\nb"}, "endpoint_name"),
        (EndpointBody, {"endpoint_state": "sleeping"}, "endpoint_state"),
        (GetLogs, {"id": 1, "tail": -1}, "tail"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_name(kind: type[object], body: dict[str, object], field: str) -> None:
    with pytest.raises(WireError) as caught:
        decode(kind, json.dumps(body).encode())
    assert caught.value.field == field


def test_an_answer_without_a_url_is_waiting_and_one_with_it_is_ready() -> None:
    """The SDK tells the two apart by the presence of ``url`` alone."""
    from vastai.serverless.client.endpoint import RouteResponse

    waiting = RouteWaiting(request_idx=3, endpoint="a", reason="no worker is ready yet")
    assert RouteResponse(msgspec.to_builtins(waiting)).status == "WAITING"
    ready = RouteReady(request_idx=3, endpoint="a", url="http://h:1", signature="s", cost=100.0, reqnum=1)
    assert RouteResponse(msgspec.to_builtins(ready)).get_url() == "http://h:1"
    assert "grant" not in msgspec.to_builtins(ready)


def test_an_error_body_always_says_that_it_is_one() -> None:
    assert msgspec.to_builtins(ErrorBody("not_found", "There is none.")) == {
        "error": "not_found",
        "msg": "There is none.",
        "success": False,
    }
    assert msgspec.to_builtins(WireError("a", "a is wrong.").body()) == msgspec.to_builtins(
        ErrorBody("invalid_args", "a is wrong.", field="a")
    )


def test_no_message_shows_its_secrets() -> None:
    """What a log or a traceback shows of a message holds no secret."""
    secret = "s3cret-value"
    shown = [
        repr(RouteRequest("a", api_key=secret)),
        repr(WorkerStatus(1, secret)),
        repr(DeleteRequests(1, secret, [])),
        repr(RouteReady(1, "a", "u", secret, 1.0, 1, grant=secret)),
        repr(WorkergroupBody(docker_login_pass=secret)),
        repr(EndpointList([msgspec.structs.replace(ROW, api_key=secret)])),
    ]
    assert all(secret not in text and "***" in text for text in shown)
    assert "mtoken" in SECRET_FIELDS
