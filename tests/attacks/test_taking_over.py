"""Attacks on a running session by one that knows its request's number: S7 of the faults found."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from vastai.serverless.server.lib.data_types import Session

from nullworker.worker import request_checks
from nullworker.worker.place_notice import PlaceNotice
from nullworker.worker.request_checks import RefusedError, RequestChecks
from nullworker.worker.sessions import SessionTable
from tests.integration import null_worker_kit as kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(engine: kit.StubEngine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[kit.WorkerProcess]:
    async with kit.worker(kit.worker_env(engine.url), tmp_path_factory.mktemp("worker")) as process:
        await engine.ready()
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def worker(engine: kit.StubEngine, shared: kit.WorkerProcess) -> kit.WorkerProcess:
    await kit.free(engine, shared)
    return shared


async def _shows_its_id(worker: kit.WorkerProcess, how: str, session_id: str, auth_data: dict[str, Any]) -> None:
    if how == "ping":
        body: dict[str, Any] = {"auth_data": auth_data, "session_id": session_id, "payload": {}}
        assert (await kit.post(worker.url + "/ping", body)).status == 200
    else:
        body = {"session_auth": auth_data, "session_id": session_id}
        assert (await kit.post(worker.url + "/session/get", body)).status == 200


@pytest.mark.promise("P1")
@pytest.mark.parametrize("how", ["ping", "get"])
async def test_a_session_that_runs_is_not_given_for_its_number(
    engine: kit.StubEngine, worker: kit.WorkerProcess, how: str
) -> None:
    own = engine.auth_data(worker.url)
    session_id = (await kit.create(worker, own)).body["session_id"]
    await _shows_its_id(worker, how, session_id, own)
    guessed = engine.auth_data(worker.url, own["request_idx"], reqnum=900)  # the engine routes the number again

    stolen = await kit.create(worker, guessed)

    assert stolen.status == 409
    assert session_id not in str(stolen.body)
    assert (await kit.end(worker, session_id, guessed)).status == 401
    assert (await kit.create(worker, own)).body["session_id"] == session_id  # its opener's own repetition
    assert (await kit.end(worker, session_id, own)).status == 200


@pytest.mark.parametrize("wrong", ["session_id", "auth"])
async def test_a_wrong_call_confirms_no_session(engine: kit.StubEngine, worker: kit.WorkerProcess, wrong: str) -> None:
    """Else a client whose answer was lost could be locked out of its own session by a call of anyone."""
    own = engine.auth_data(worker.url)
    session_id = (await kit.create(worker, own)).body["session_id"]
    other = engine.auth_data(worker.url)
    shown = {"session_id": "x" * 22, "session_auth": own} if wrong == "session_id" else {"session_id": session_id}
    answer = await kit.post(worker.url + "/session/get", {"session_auth": other, **shown})
    assert answer.status in (400, 401)
    assert (await kit.create(worker, engine.auth_data(worker.url, own["request_idx"]))).status == 201


async def test_after_a_while_its_number_gives_an_unconfirmed_session_neither() -> None:
    table = SessionTable(3600.0, 3600.0)
    checks = RequestChecks(
        SimpleNamespace(sessions=table, unsecured=True, backend=None),  # type: ignore[arg-type]
        engine_auth=None,  # type: ignore[arg-type]
        callbacks=None,  # type: ignore[arg-type]
        health=None,  # type: ignore[arg-type]
        vacant=None,  # type: ignore[arg-type]
        place=PlaceNotice(),
    )
    table["s"] = Session(
        session_id="s", lifetime=600.0, auth_data={"reqnum": 1}, expiration=0.0, on_close_route=None,
        on_close_payload=None, request_idx=7,
    )  # fmt: skip
    auth = SimpleNamespace(request_idx=7, data={"reqnum": 2})
    assert checks._same_session(auth, None) is not None  # type: ignore[arg-type]
    assert table["s"].auth_data == {"reqnum": 2}
    table["s"]._opened_at -= request_checks.ANSWER_LOST_S + 1
    with pytest.raises(RefusedError, match="begin a new request"):
        checks._same_session(SimpleNamespace(request_idx=7, data={"reqnum": 3}), None)  # type: ignore[arg-type]
    assert table["s"].auth_data == {"reqnum": 2}
