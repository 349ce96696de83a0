"""Every call of the ``vastai`` command line and SDK that concerns endpoints, unmodified, against this engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from vastai.data.endpoint import EndpointConfig as VastEndpoint
from vastai.data.workergroup import WorkergroupConfig as VastWorkergroup

from docs.tools.transcript import PAGE, STEPS, Line, run_steps
from tests.integration.engine.kit import ENDPOINT, config, quick, running, vast_client
from tests.kit.waiting import until

VASTAI = str(Path(sys.executable).parent / "vastai")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The whole transcript, run once; then its ``show endpoints`` again, by the script that a user has."""

    def command_line(url: str, key: str) -> list[Line]:
        told = run_steps(url, key, VASTAI)
        command = [VASTAI, "--url", url, "--api-key", key, "show", "endpoints"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [*told, Line("", ("show", "endpoints"), done.stdout + done.stderr, done.returncode)]

    async def run() -> list[Line]:
        settings = config(tmp_path_factory.mktemp("cli"), quick())
        async with running(settings) as engine:
            return await asyncio.to_thread(command_line, engine.url, engine.key)

    return asyncio.run(run())


def said(lines: list[Line], *start: str) -> str:
    return next(line.output for line in lines if line.arguments[: len(start)] == start)


def test_no_call_ends_in_a_traceback_and_none_shows_a_key(lines: list[Line]) -> None:
    for line in lines:
        assert line.code == 0, line
        assert "Traceback" not in line.output
        assert "api_key" not in line.output


def test_create_show_and_update(lines: list[Line]) -> None:
    assert said(lines, "create", "endpoint") == "create endpoint {'result': 3, 'success': True}\n"
    assert said(lines, "create", "workergroup") == "workergroup create {'id': 4, 'success': True}\n"
    assert '"endpoint_name": "gpu"' in said(lines, "show", "endpoints")
    assert f'"endpoint_name": "{ENDPOINT}"' in said(lines, "show", "endpoints")
    assert f'"endpoint_name": "{ENDPOINT}"' in lines[-1].output
    assert '"backend": "null"' in said(lines, "show", "workergroups")
    assert "success" in said(lines, "update", "endpoint", "3")


def test_an_update_takes_effect_at_once(lines: list[Line]) -> None:
    assert "status=ready" in said(lines, "get", "endpt-workers")


def test_the_logs_say_why_at_their_levels(lines: list[Line]) -> None:
    assert "create worker 1: active perf 0 of 100 wanted" in said(lines, "get", "endpt-logs")
    assert "worker_ready" in said(lines, "get", "wrkgrp-logs")


def test_a_rolling_update_and_its_cancelling(lines: list[Line]) -> None:
    assert said(lines, "update", "workers", "4") == "Update started for workergroup 4 (1 workers)\n"
    assert said(lines, "update", "workers", "4", "--cancel") == "Update cancelled for workergroup 4\n"
    assert "there is no workergroup 99" in said(lines, "update", "workers", "99")


def test_the_page_in_the_docs_has_the_same_commands() -> None:
    shown = [text.removeprefix("$ V ") for text in PAGE.read_text().splitlines() if text.startswith("$ V ")]
    assert shown == [" ".join(arguments) for _, arguments in STEPS]


async def test_the_sdk_makes_and_deletes_endpoints_and_workergroups(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine, vast_client(engine.url, engine.key) as client:
        managed = await client.create_endpoint(VastEndpoint("made-by-sdk", min_load=0, target_util=1.0, cold_workers=0))
        data = await client.fetch_endpoint(managed.id)
        assert data.config.endpoint_name == "made-by-sdk"
        group = await client.create_workergroup(VastWorkergroup(endpoint_id=managed.id, template_hash="null"))
        assert await client.find_workergroup_for_endpoint(managed.id) == group
        assert (await client.update_workers(group))["success"]
        endpoint = await client.get_endpoint("made-by-sdk")
        session = await endpoint.session(cost=100, lifetime=60)
        await client.delete_endpoint(managed.id)
        assert await session.is_open(), "deleting drains first"
        await session.close()
        await until(lambda: "made-by-sdk" not in engine.server.catalog.by_name, "the endpoint is gone")
