"""The README's first command, as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.integration.ray_cluster import needs_ray, ray_cluster
from tests.integration.slurm_cluster import cluster_in, needs_slurm
from tests.integration.ssh_hosts import boxes_in, needs_sshd
from tests.kit.waiting import until

HANG_S = 110


def demo(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nullworker.cli.main", "demo", "--folder", str(folder), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)


@pytest.mark.parametrize(
    ("flags", "jobs"), [(["--jobs", "8"], 8), pytest.param([], 24, marks=pytest.mark.long)], ids=["some", "all"]
)
def test_the_demo_draws_its_picture_and_ends_with_nothing_left(tmp_path: Path, flags: list[str], jobs: int) -> None:
    done = demo(tmp_path, "--json", *flags)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["jobs_done"], summary["jobs_lost"], summary["jobs_failed"]) == (jobs, 0, 0)
    assert summary["peak_workers"] == 4
    assert (summary["workers_left"], summary["processes_left"]) == (0, 0)
    assert summary["first_grant_s"] > 0
    # With few jobs the last idle seconds of each worker may well be more than those in which it was held.
    assert summary["worker_seconds_held"] > (0 if flags else summary["worker_seconds_idle"])
    with Image.open(summary["picture"]) as picture:
        assert picture.size == (960, 640)
        assert len(picture.resize((24, 16)).getcolors() or []) > 10
    assert Path(summary["timeline"]).read_text().lstrip().startswith("<?xml")


def test_the_demo_runs_a_users_own_command_for_each_job(tmp_path: Path) -> None:
    script = f"touch {tmp_path}/did-$JOB; echo job $JOB is done"
    done = demo(tmp_path, "--jobs", "3", "--max", "2", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path}/output-*.txt" in done.stdout
    assert (tmp_path / "output-2.txt").read_text() == "job 2 is done\n"
    assert "3 done, 0 failed, 0 lost" in done.stdout
    assert re.search(r"to watch it, open http://127\.0\.0\.1:\d+ and sign in with \S{20,}\n", done.stdout)
    assert sorted(path.name for path in tmp_path.glob("did-*")) == ["did-0", "did-1", "did-2"]


def test_a_command_that_fails_is_shown_with_its_last_words(tmp_path: Path) -> None:
    done = demo(tmp_path, "--jobs", "1", "--max", "1", "--", "sh", "-c", "echo no such model >&2; exit 3")
    assert done.returncode == 1
    assert "0 done, 1 failed, 0 lost" in done.stdout
    assert "job 0: no such model [exit code 3]" in done.stdout


def demo_on(fleet: str, folder: Path, settings: list[str]) -> None:
    """The demo on a fleet whose machines have the folder and the Python of this one."""
    file = folder / "nullworker.toml"
    file.write_text("\n".join(("[engine]", "port = 0", f"[fleet.{fleet}]", *settings)))
    done = demo(folder / "demo", "--fleet", fleet, "--config", str(file), "--jobs", "3", "--max", "2", "--json")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["jobs_done"], summary["jobs_lost"], summary["workers_left"]) == (3, 0, 0)
    assert summary["peak_workers"] <= 2
    assert sorted(path.name for path in (folder / "demo").iterdir()) == ["mandelbrot.png", "timeline.svg"]


@pytest.mark.long
@needs_sshd
async def test_the_demo_by_ssh(tmp_path: Path) -> None:
    async with boxes_in(tmp_path, 1) as boxes:
        (host,) = boxes.hosts
        keys = {key: str(boxes.settings[key]) for key in ("python", "identity", "known_hosts", "ssh_config")}
        lines = [f'{key} = "{value}"' for key, value in keys.items()]
        hosts = f'hosts = [{{ host = "{host.address}", port = {host.port}, slots = 2 }}]'
        await asyncio.to_thread(demo_on, "ssh", tmp_path, ["install = false", hosts, *lines])


@pytest.mark.long
@needs_slurm
async def test_the_demo_on_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster_in(tmp_path, monkeypatch) as cluster:
        lines = ['host = "127.0.0.1"', "queue_s = 0.5", f'python = "{sys.executable}"']
        await asyncio.to_thread(demo_on, "slurm", tmp_path, lines)
        await until(lambda: cluster.running() == [])


@pytest.mark.long
@needs_ray
async def test_the_demo_on_ray(tmp_path: Path) -> None:
    async with ray_cluster(tmp_path / "unused") as cluster:
        named = {key: cluster.settings[key] for key in ("address", "token_file", "python")}
        lines = [f'{key} = "{value}"' for key, value in named.items()]
        await asyncio.to_thread(demo_on, "ray", tmp_path, ["install = false", "jobs_s = 0.5", *lines])
        await until(lambda: cluster.workers() == [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[fleet.ssh\n", "nullworker.toml"),
        ("[fleet.ssh]\nhosts = 3\n", "hosts"),
    ],
)
def test_a_file_that_is_wrong_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(text)
    done = demo(tmp_path / "demo", "--fleet", "ssh", "--config", str(file))
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fleet_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", "--fleet", "moon")
    assert done.returncode != 0
    assert "moon" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_in_the_middle_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nullworker.cli.main", "demo", "--folder", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "1 held" in line or "2 held" in line or "3 held" in line or "4 held" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=HANG_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    give_up_at = time.monotonic() + HANG_S
    while (left := processes_with(str(tmp_path))) and time.monotonic() < give_up_at:
        time.sleep(0.1)
    assert left == []


def processes_with(text: str) -> list[int]:
    """Processes that have ``text`` in their environment: the demo's workers and consumers have its folder there."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"DEMO_TILES={text}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--jobs", "2", "--", "nosuchprog"], "There is no program nosuchprog in PATH"),
        (["--jobs", "2", "--folder", "/proc/demo"], "The folder /proc/demo cannot be written to"),
    ],
)
def test_what_cannot_work_is_said_before_anything_starts(tmp_path: Path, flags: list[str], says: str) -> None:
    done = demo(tmp_path, *flags)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {says}")
    assert len(done.stderr.splitlines()) == 1
