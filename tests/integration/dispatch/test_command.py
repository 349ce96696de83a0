"""``nullworker dispatch`` at a terminal: what it reads, what it refuses, and in which words."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nullworker.cli import main as cli
from nullworker.dispatch.store import DispatchStore, Row
from nullworker.queues import sqlite_jobs
from tests.integration.dispatch.kit import ENDPOINT, dispatching, farm, python
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Dispatch = Callable[..., subprocess.CompletedProcess[str]]


def dispatch(folder: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NULLWORKER_", "VAST_"))}
    command = [sys.executable, "-m", "nullworker.cli.main", "dispatch", *flags, "--state", str(folder / "state")]
    return subprocess.run(
        command, env={**kept, **environment}, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def dispatch_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Dispatch]:
    """As ``dispatch``, without a process of its own: for what it says before it begins."""
    levels = {name: logging.getLogger(name).level for name in logging.root.manager.loggerDict}

    def run(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        for name in [name for name in os.environ if name.startswith(("NULLWORKER_", "VAST_"))]:
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        code = cli.run(cli.build(), ["dispatch", *flags, "--state", str(tmp_path / "state")])
        return subprocess.CompletedProcess(flags, code, *capfd.readouterr())

    yield run
    for name in list(logging.root.manager.loggerDict):
        if logging.getLogger(name).level == logging.CRITICAL:  # hushed, for as long as the command lives
            logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


def test_check_says_what_it_sees(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    sqlite_jobs.enqueue(file, ["a", "b", "c"])
    sqlite_jobs.claim(file, "me")
    checked = dispatch(tmp_path, "--queue", sqlite_jobs.url(file), "--check")
    assert checked.returncode == 0, checked.stderr
    assert "2 waiting, 1 in flight, 0 delayed" in checked.stdout
    told = json.loads(dispatch(tmp_path, "--queue", sqlite_jobs.url(file), "--check", "--json").stdout)
    assert (told["depth"]["waiting"], told["info"]["kind"]) == (2, "sqlite")


def test_check_of_a_file_that_is_not_there_yet_says_so(tmp_path: Path, dispatch_here: Dispatch) -> None:
    """Which is how it is before the first job, or a path that is wrong."""
    checked = dispatch_here("--queue", sqlite_jobs.url(tmp_path / "jobs.db"), "--check")
    assert checked.returncode == 0, checked.stderr
    assert "0 waiting, 0 in flight" in checked.stdout
    assert f"warning (missing): There is no file {tmp_path}/jobs.db yet" in checked.stdout


def test_check_of_a_broker_that_is_down_fails_in_a_sentence(dispatch_here: Dispatch) -> None:
    queue = f"amqp://me:s3cret-pass@127.0.0.1:{free_port()}/?queue=renders"
    failed = dispatch_here("--queue", queue, "--check")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: ")
    assert len(failed.stderr.splitlines()) == 1
    assert "s3cret-pass" not in failed.stderr + failed.stdout


def test_advice_compares_the_lease_with_what_was_held(tmp_path: Path) -> None:
    from nullworker.cli.dispatch import _advice
    from nullworker.dispatch.binding import BindingSettings
    from nullworker.queues.base import QueueInfo

    binding = BindingSettings("gpu", sqlite_jobs.url(tmp_path / "jobs.db"), end_idle_s=5)
    store = DispatchStore(tmp_path / "dispatch.db")
    store.closed(Row("a", binding.name, "held", 0.0), 4000.0, 4000.0, 0.0)
    store.close()
    leased = QueueInfo("q", "q", "here", lease_s=1800.0, lag_s=60.0)
    advice = _advice(binding, leased, tmp_path / "dispatch.db")
    assert any("held for up to 4000 s" in each for each in advice)
    assert any("--end-idle has no effect here" in each for each in advice)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--endpoint", "gpu"], 2, "Missing option '--queue'"),
        (["--queue", "sqlite:///tmp/x.db"], 2, "Missing option '--endpoint'"),
        (["--endpoint", "gpu", "--queue", "rabbit://host"], 1, "No queue adapter is installed for rabbit://"),
        (["--endpoint", "gpu", "--queue", "jobs"], 1, "A queue's URL begins with"),
        (["--endpoint", "gpu", "--queue", "sqlite:///tmp/x.db", "--poll", "0"], 1, "error: --poll is 0, and"),
        (["--endpoint", "gpu", "--queue", "sqlite:///tmp/x.db", "--price", "-1"], 1, "error: --price is -1, and"),
        (["--endpoint", "gpu", "--queue", "sqlite:///tmp/x.db", "--max", "-1"], 2, "--max"),
        (["--endpoint", "gpu", "--queue", "sqlite:///tmp/x.db", "--max-daily", "3"], 1, "needs the price"),
        (["--endpoint", "gpu", "--queue", "sqlite:///tmp/x.db", "--instance", "moon"], 1, "no instance 'moon'"),
        (["--config", "absent.toml"], 1, "absent.toml cannot be read (no such file or directory)."),
        (["--config", "x.toml", "--queue", "sqlite:///tmp/x.db"], 2, "not both"),
    ],
)
def test_wrong_use_is_refused_in_a_sentence(dispatch_here: Dispatch, flags: list[str], code: int, said: str) -> None:
    refused = dispatch_here(*flags, VAST_API_KEY="k")
    assert refused.returncode == code
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_help_has_an_example(dispatch_here: Dispatch) -> None:
    shown = dispatch_here("--help")
    assert shown.returncode == 0
    assert "nullworker dispatch --endpoint null-local --queue" in shown.stdout


async def test_a_queue_that_can_never_be_read_ends_it_with_a_sentence(tmp_path: Path) -> None:
    async with farm(tmp_path, "true") as running:
        flags = ["--endpoint", ENDPOINT, "--queue", f"sqlite://{tmp_path}/gone/jobs.db", "--instance", running.url]
        for more in ([], ["--until-empty"]):
            ended = await asyncio.to_thread(dispatch, tmp_path, *flags, *more, VAST_API_KEY=running.key)
            assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended
            assert f"the directory {tmp_path}/gone does not exist" in ended.stderr


async def test_a_wrong_endpoint_or_key_ends_it_with_a_sentence(tmp_path: Path) -> None:
    """Also under ``--check``, which says all that is wrong at once."""
    file = tmp_path / "jobs.db"
    sqlite_jobs.enqueue(file, ["a 0"])
    async with farm(tmp_path, "true") as running:
        for endpoint, key, said in (
            ("cpu", running.key, "no endpoint 'cpu': give one of those it has, gpu"),
            (ENDPOINT, "s3cret-key", "refuses the API key"),
        ):
            flags = ["--endpoint", endpoint, "--queue", sqlite_jobs.url(file), "--instance", running.url]
            for more in ([], ["--check"]):
                ended = await asyncio.to_thread(dispatch, tmp_path, *flags, *more, VAST_API_KEY=key)
                assert ended.returncode == 1, ended
                assert said in ended.stderr
                assert len(ended.stderr.splitlines()) == 1
                assert "s3cret-key" not in ended.stderr
                assert ("1 waiting" in ended.stdout) == ("--check" in more)
        right = ["--endpoint", ENDPOINT, "--queue", sqlite_jobs.url(file), "--instance", running.url]
        checked = await asyncio.to_thread(dispatch, tmp_path, *right, "--check", VAST_API_KEY=running.key)
        assert checked.returncode == 0, checked
        assert "accepts the key, and has gpu" in checked.stdout


def test_check_of_an_engine_that_is_down_fails_in_a_sentence(tmp_path: Path, dispatch_here: Dispatch) -> None:
    queue = sqlite_jobs.url(tmp_path / "jobs.db")
    engine = f"http://127.0.0.1:{free_port()}"
    flags = ["--endpoint", "gpu", "--queue", queue, "--instance", engine, "--check"]
    failed = dispatch_here(*flags, VAST_API_KEY="k")
    assert failed.returncode == 1
    assert "0 waiting" in failed.stdout
    assert failed.stderr.startswith(f"error: The engine at {engine} does not answer")
    assert len(failed.stderr.splitlines()) == 1


async def test_a_key_that_is_refused_while_something_is_held_is_said_and_tried_again(tmp_path: Path) -> None:
    """What is held is kept alive; when the last of it is over, it ends."""
    file = tmp_path / "jobs.db"
    sqlite_jobs.enqueue(file, ["a 600"])
    async with farm(tmp_path, python("sqlite_consumer.py", str(file), "1")) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file)) as dispatcher:
            await until(lambda: dispatcher.last.get("held") == 1, dispatcher.tail)
            dispatcher.kill()
            dispatcher.key = "s3cret-key"
            dispatcher.start()
            await until(lambda: "refuses the API key" in dispatcher.log.read_text(), dispatcher.tail)
            await until(lambda: "reservations of an earlier dispatcher" in dispatcher.log.read_text(), dispatcher.tail)
            assert dispatcher.process is not None
            assert dispatcher.process.poll() is None
            assert running.held == 1
            await running.stop(destroy=True)
            await running.start()
            assert await dispatcher.wait() == 1
            assert dispatcher.log.read_text().splitlines()[-1].startswith("error: The engine at")


async def test_the_status_of_the_engine_shows_what_its_dispatcher_reads_and_the_warnings(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    sqlite_jobs.enqueue(file, ["job-1 60"])

    def status(url: str, key: str) -> str:
        flags = ["--instance", url, "--api-key", key]
        command = [sys.executable, "-m", "nullworker.cli.main", "status", *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    async with farm(tmp_path, python("sqlite_consumer.py", str(file), "1")) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file)) as dispatcher:
            await until(lambda: dispatcher.last.get("doing") == {"at a job": 1}, dispatcher.tail)
            assert [warning["code"] for warning in dispatcher.last["warnings"]] == ["no-lease"]
            shown = ""
            for _ in range(100):
                shown = await asyncio.to_thread(status, running.url, running.key)
                if "at a job" in shown:
                    break
            line = next(line for line in shown.splitlines() if "sqlite" in line)
            assert line.startswith(f"gpu sqlite://{file}"), line
            assert "0 waiting, 1 in flight; want 1, 1 held (1 at a job), 0 requested; read " in line
            assert "  warning: It is not known after how long a job may be taken" in shown
            command = [sys.executable, "-m", "nullworker.cli.main", "queues", "--instance", running.url, "--json"]
            flags = ["--api-key", running.key]
            view = await asyncio.to_thread(
                subprocess.run, [*command, *flags], capture_output=True, timeout=60, check=True
            )
            (row,) = json.loads(view.stdout)["rows"]
            assert (row["endpoint"], row["in_flight"], row["doing"]) == ("gpu", 1, {"at a job": 1})


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_database_of_another_program_is_refused_in_a_sentence(
    tmp_path: Path, dispatch_here: Dispatch, check: list[str]
) -> None:
    """And a queue that is well does not matter then."""
    (tmp_path / "state").mkdir()
    with sqlite3.connect(tmp_path / "state" / "dispatch.db") as db:
        db.execute("CREATE TABLE reservations (id INTEGER)")
    db.close()
    queue = sqlite_jobs.url(tmp_path / "jobs.db")
    refused = dispatch_here("--endpoint", "gpu", "--queue", queue, *check, VAST_API_KEY="k")
    assert refused.returncode == 1
    assert "is the database of another program" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
