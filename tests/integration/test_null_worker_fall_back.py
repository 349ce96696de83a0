"""Where the framework's inside is not as our reports need it, the framework's own go on, and the worker says so."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration import null_worker_kit as kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: Of the worker's metrics, what our reports alone need is gone: before they start, or after the first.
PLANTS = {
    "at the start": "reports._a_request = planted",
    "later": "reports._disk_used_gb = lambda calls=[]: calls.append(1) or (1.0 if len(calls) < 4 else planted())",
}
PLANTED = """
import runpy
from nullworker.worker import reports

def planted():
    raise AttributeError("planted")

{plant}
runpy.run_module("workers.null.worker", run_name="__main__")
"""


@pytest.fixture
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


async def serves(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    """A session is opened, reported, ended and reported."""
    auth_data = engine.auth_data(worker.url)
    opened = await kit.create(worker, auth_data)
    assert opened.status == 201, opened.body
    idx = auth_data["request_idx"]
    await engine.wait_for(lambda report: idx in report.body.get("working_request_idxs", []))
    assert (await kit.end(worker, opened.body["session_id"], auth_data)).status == 200
    await engine.wait_for(lambda _: bool(engine.finished(idx)))


@pytest.mark.parametrize("when", PLANTS)
async def test_a_worker_that_cannot_report_at_once_says_so_and_serves(
    engine: kit.StubEngine, tmp_path: Path, when: str
) -> None:
    script = PLANTED.format(plant=PLANTS[when])
    async with kit.worker(kit.worker_env(engine.url), tmp_path, sys.executable, "-c", script) as worker:
        await engine.ready()
        for _ in range(3):
            await serves(engine, worker)
        health = await kit.call("GET", worker.control_url + "/health")
        assert health.status == 200
        assert "AttributeError: planted" in health.body["degraded"]
        assert "The framework's own reports go on" in worker.log
        assert not engine.reports[-1].prompt


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.9.0", "1.5.0"])
@pytest.mark.timeout(600)
async def test_an_older_framework_is_reported_for_at_once(engine: kit.StubEngine, tmp_path: Path, version: str) -> None:
    """In an environment of its own, from the registry: 1.9.0 lacked a method that our reports called."""
    env = tmp_path / "env"
    commands: tuple[tuple[str, ...], ...] = (
        (sys.executable, "-m", "venv", str(env)),
        (str(env / "bin/python"), "-m", "pip", "install", "--quiet", f"vastai=={version}", "setuptools<81", "PyJWT"),
    )
    for command in commands:
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
    worker_command = (str(env / "bin/python"), "-m", "workers.null.worker")
    async with kit.worker(kit.worker_env(engine.url), tmp_path, *worker_command) as worker:
        await engine.ready()
        for _ in range(3):
            await serves(engine, worker)
        health = await kit.call("GET", worker.control_url + "/health")
        assert health.body == {"ok": True}, worker.log
        assert all(report.body["loadtime"] > 0 for report in engine.reports[-2:] if report.path == "/worker_status/")
        assert engine.reports[-1].prompt
