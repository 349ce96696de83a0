"""`nullworker doctor` on this machine: with an engine, without one, and below a first process that does not reap."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.cli import main as cli
from nullworker.cli.doctor import machine
from nullworker.cli.doctor.facts import InitFacts
from nullworker.queues import sqlite_jobs
from nullworker.wire import paths
from tests.integration.engine.kit import ENDPOINT, config, endpoint_of, quick, running
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path


def examined(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit code, and what each check found."""
    code = cli.run(cli.build(), ["doctor", "--json", *flags])
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] == (code == 0)
    by_check: dict[str, list[dict[str, Any]]] = {}
    for finding in said["findings"]:
        by_check.setdefault(finding["check"], []).append(finding)
    return code, by_check


@pytest.fixture(autouse=True)
def _no_keys_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("NULLWORKER_", "VAST_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NULLWORKER_STATE", str(tmp_path / "none"))
    monkeypatch.setattr(machine, "init", lambda: InitFacts("tini", reaps=True))  # which takes a second; tried below


async def test_an_engine_its_worker_and_queues_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = tmp_path / "jobs.db"
    sqlite_jobs.enqueue(jobs, ["a"])
    state = tmp_path / "state"
    async with running(config(state, quick(max_workers=1))) as engine, endpoint_of(engine) as endpoint:
        session = await endpoint.session(cost=100, lifetime=60.0)
        flags = ("--instance", engine.url, "--state", str(state))
        queue = ("--queue", sqlite_jobs.url(jobs))
        _, found = await asyncio.to_thread(examined, capsys, *flags, *queue)
        report = {"queue": "redis://h/0", "endpoint": ENDPOINT, "trouble": "The broker is down."}
        await engine.call("POST", paths.DISPATCHERS, {"dispatcher": "h process 1", "queues": [report]})
        (state / "secret").chmod(0o644)
        code, bad = await asyncio.to_thread(
            examined, capsys, *flags, "--queue", f"redis-list://127.0.0.1:{free_port()}/0?key=a"
        )
        refused, without_key = await asyncio.to_thread(examined, capsys, *flags, "--api-key", "another")
        await session.close()

    for check in ("engine", "workers", "queues", "state directory"):
        assert found[check][0]["level"] == "ok", found[check]
    assert found["workers"][0]["what"] == "1 worker reports and is reached."
    assert code == 1
    assert [each["level"] for each in bad["queues"]] == ["wrong", "wrong"]
    assert "The broker is down" in bad["queues"][0]["what"]
    assert "secret is open to other users (mode 0644)" in bad["state directory"][0]["what"]
    assert refused == 1
    assert "refuses the key" in without_key["engine"][0]["what"]


def test_without_an_engine_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(f'[engine]\nport = {free_port()}\nstate = "{tmp_path}/state"\n')
    code, found = examined(capsys, "--config", str(file))
    assert code == 1
    assert found["engine"][0]["what"].endswith("(nothing listens there).")
    assert found["engine"][0]["advice"] == "Start one: nullworker engine."
    assert not (tmp_path / "state").exists()
    file.write_text("[engine]\nprot = 1\n")
    code, found = examined(capsys, "--config", str(file))
    assert code == 1
    assert "prot" in found["configuration"][0]["what"]


def test_it_prints_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(cli.build(), ["doctor", "--instance", f"http://127.0.0.1:{free_port()}"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("wrong    engine ") for line in lines)
    assert lines[-1].startswith("1 wrong, ")


def test_a_first_process_that_does_not_reap_is_found_out() -> None:
    """Python as the first process of a container: it takes no note of the ends of orphans."""
    unshare = shutil.which("unshare")
    code = (
        "from nullworker.cli.doctor import machine\n"
        "machine.REAP_S = 0.3\n"
        "found = machine.init()\n"
        "print(found.name, found.reaps, found.zombies)"
    )
    command = [str(unshare), "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False) if unshare else None
    if done is None or done.returncode != 0:
        pytest.skip("a process namespace cannot be made here (unshare, as root)")
    name, reaps, zombies = done.stdout.split()
    assert name.startswith("python")
    assert (reaps, int(zombies)) == ("False", 1)
