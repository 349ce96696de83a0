"""The consumer: started with a reservation, ended with it, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
import textwrap
from typing import TYPE_CHECKING

import psutil
import pytest
import pytest_asyncio

from tests.integration import null_worker_kit as kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Writes down its process and environment, and does what the file "do" says when there is one.
CONSUMER = """
    import json, os, signal, subprocess, sys, time
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: open("sigterm", "a").write(f"{os.getpid()}\\n"))
    if "warm" in sys.argv:  # ends when its child has done its job, as queue libraries do
        signal.signal(signal.SIGTERM, lambda *_: (open("ended", "w").write(str(job.wait())), os._exit(0)))
        job = subprocess.Popen(["sh", "-c", "while ! test -e finish; do sleep 0.05; done"])
    if "last-words" in sys.argv:
        print("Traceback, and so on\\nValueError: no model at", os.environ["MODEL_URL"], "\\n", file=sys.stderr)
    if "with-child" in sys.argv:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open("child.tmp", "w").write(str(child.pid))
        os.replace("child.tmp", "child")
    name = f"started-{os.environ['NULL_REQUEST_IDX']}"
    with open(name + ".tmp", "w") as out:
        json.dump({"pid": os.getpid(), "env": dict(os.environ)}, out)
    os.replace(name + ".tmp", name)
    while not os.path.exists("exit"):
        time.sleep(0.01)
    sys.exit(int(open("exit").read()))
"""


@pytest_asyncio.fixture(loop_scope="module")
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[kit.StubEngine, kit.WorkerProcess]]:
    directory = tmp_path_factory.mktemp("worker")
    async with (
        kit.StubEngine().running() as engine,
        kit.worker(kit.worker_env(engine.url, NULL_CONSUMER=consumer(directory)), directory) as worker,
    ):
        await engine.ready()
        yield engine, worker


@pytest_asyncio.fixture(loop_scope="module")
async def well(shared: tuple[kit.StubEngine, kit.WorkerProcess]) -> tuple[kit.StubEngine, kit.WorkerProcess]:
    """A worker whose consumer ends when it is told to, for tests that leave it as it was; and its engine."""
    engine, worker = shared
    (worker.directory / "exit").unlink(missing_ok=True)
    await kit.free(engine, worker)
    return engine, worker


def consumer(directory: Path, *arguments: str) -> str:
    """The command of a consumer that was written to ``directory``."""
    program = directory / "consumer.py"
    program.write_text(textwrap.dedent(CONSUMER))
    return shlex.join([sys.executable, str(program), *arguments])


async def started(worker: kit.WorkerProcess, request_idx: int) -> tuple[int, dict[str, str]]:
    """The process and the environment of the consumer for a request, once it runs."""
    note = worker.directory / f"started-{request_idx}"
    await kit.until(note.exists)
    found = json.loads(note.read_text())
    return found["pid"], found["env"]


async def gone(pid: int) -> None:
    await kit.until(lambda: not kit.is_alive(pid))


async def test_a_consumer_is_told_what_it_is_for_and_ends_with_its_reservation(
    well: tuple[kit.StubEngine, kit.WorkerProcess],
) -> None:
    engine, worker = well
    auth_data = engine.auth_data(worker.url)
    opened = await kit.create(worker, auth_data, on_close_payload={"job": "ü"})
    pid, env = await started(worker, auth_data["request_idx"])
    assert env["NULL_SESSION_ID"] == opened.body["session_id"]
    assert env["NULL_CONTROL_URL"] == worker.control_url
    assert json.loads(env["NULL_PAYLOAD"]) == {"job": "ü"}
    assert "MASTER_TOKEN" not in env
    await kit.end(worker, opened.body["session_id"], auth_data)
    await gone(pid)
    again = engine.auth_data(worker.url)
    assert (await kit.create(worker, again)).status == 201
    await started(worker, again["request_idx"])
    assert (await kit.call("GET", worker.control_url + "/health")).status == 200


async def test_what_a_consumer_needs_is_there_before_its_reservation(engine: kit.StubEngine, tmp_path: Path) -> None:
    """Its supervisor, for an interpreter takes a while to start: no process is started then but the consumer itself."""
    async with kit.worker(kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path)), tmp_path) as worker:
        await engine.ready()
        used: set[int] = set()

        def ready() -> set[int]:
            return set(kit.session_pids(worker.process.pid)) - {worker.process.pid}

        def supervisors() -> set[int]:
            """Those that have begun: what was just forked may be anything."""
            return {pid for pid in ready() if b"supervisor_main" in kit.command_line(pid)}

        for _ in range(2):
            await kit.until(lambda: supervisors() - used)
            (supervisor,) = supervisors() - used
            await kit.until(lambda: ready() == {supervisor})  # noqa: B023 - within this turn
            used.add(supervisor)
            auth_data = engine.auth_data(worker.url)
            opened = await kit.create(worker, auth_data)
            pid, _ = await started(worker, auth_data["request_idx"])
            assert ready() == {supervisor, pid}
            await kit.end(worker, opened.body["session_id"], auth_data)
            await gone(pid)


async def test_a_consumer_that_ends_well_releases_its_reservation(
    well: tuple[kit.StubEngine, kit.WorkerProcess],
) -> None:
    engine, worker = well
    kit.write_at_once(worker.directory / "exit", "0")
    for _ in range(3):
        auth_data = engine.auth_data(worker.url)
        assert (await kit.create(worker, auth_data)).status == 201
        await engine.wait_for(lambda _, idx=auth_data["request_idx"]: bool(engine.finished(idx)))  # type: ignore[misc]
    assert not any(report.body.get("error_msg") for report in engine.reports)
    assert (await kit.call("GET", worker.control_url + "/health")).status == 200


async def test_a_consumer_that_fails_releases_and_makes_the_worker_ill(engine: kit.StubEngine, tmp_path: Path) -> None:
    kit.write_at_once(tmp_path / "exit", "3")
    async with kit.worker(kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path)), tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))
        reason = "The consumer ended with exit code 3 while its reservation was open."
        await engine.wait_for(lambda report: report.prompt and report.body.get("error_msg") == reason)
        health = await kit.call("GET", worker.control_url + "/health")
        assert (health.status, health.body) == (500, {"error": reason})
        next_one = engine.auth_data(worker.url)
        assert (await kit.create(worker, next_one)).status == 503
        await engine.wait_for(lambda _: engine.ends_told(next_one["request_idx"]) == {"Rejected"})


async def test_the_reason_of_the_illness_has_the_last_line_that_the_consumer_wrote(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    """On one line, without the secrets of its environment; all of it is in the worker's log."""
    kit.write_at_once(tmp_path / "exit", "1")
    env = kit.worker_env(
        engine.url, NULL_CONSUMER=consumer(tmp_path, "last-words"), MODEL_URL="s3://me:pa55word@host/m"
    )
    async with kit.worker(env, tmp_path) as worker:
        await engine.ready()
        await kit.create(worker, engine.auth_data(worker.url))
        reason = "The consumer ended with exit code 1 while its reservation was open"
        reason += ": ValueError: no model at s3://***@host/m"
        await engine.wait_for(lambda report: report.body.get("error_msg") == reason)
        assert "Traceback, and so on\n" in worker.log


async def test_a_consumer_is_told_before_what_it_has_started(engine: kit.StubEngine, tmp_path: Path) -> None:
    """So that one that ends after the job in hand, which a child of its does, can do so."""
    env = kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path, "warm"), NULL_CONSUMER_GRACE="60")
    async with kit.worker(env, tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        pid, _ = await started(worker, auth_data["request_idx"])
        await kit.post(worker.control_url + "/release")
        (tmp_path / "finish").touch()
        await gone(pid)
        assert (tmp_path / "ended").read_text() == "0"  # and not -15: the child was let do its job


async def test_a_consumer_that_a_signal_kills_makes_the_worker_ill(engine: kit.StubEngine, tmp_path: Path) -> None:
    async with kit.worker(kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path)), tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        pid, _ = await started(worker, auth_data["request_idx"])
        os.kill(pid, signal.SIGKILL)
        ill = await engine.wait_for(lambda report: bool(report.body.get("error_msg")))
        assert "signal 9" in ill.body["error_msg"]
        await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))


async def test_the_next_holder_comes_in_when_the_consumer_before_has_ended(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    command = consumer(tmp_path, "stubborn")
    env = kit.worker_env(engine.url, NULL_CONSUMER=command, NULL_CONSUMER_GRACE="1.5")
    async with kit.worker(env, tmp_path) as worker:
        await engine.ready()
        first, second = engine.auth_data(worker.url), engine.auth_data(worker.url)
        opened = await kit.create(worker, first)
        old_pid, _ = await started(worker, first["request_idx"])
        await kit.end(worker, opened.body["session_id"], first)
        assert (await kit.create(worker, second)).status == 201
        assert not kit.is_alive(old_pid)  # it had SIGTERM, stayed, and was killed after the grace
        assert (tmp_path / "sigterm").read_text() == f"{old_pid}\n"
        await started(worker, second["request_idx"])
        assert (await kit.call("GET", worker.control_url + "/health")).status == 200
        await kit.post(worker.control_url + "/release")


async def test_a_holder_that_would_wait_too_long_is_refused_and_the_engine_told(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    own = {"NULL_CONSUMER_GRACE": "60", "NULL_CREATE_WAIT": "0.5"}
    env = kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path, "stubborn"), **own)
    async with kit.worker(env, tmp_path) as worker:
        await engine.ready()
        first, second = engine.auth_data(worker.url), engine.auth_data(worker.url)
        await kit.create(worker, first)
        pid, _ = await started(worker, first["request_idx"])
        await kit.post(worker.control_url + "/release")
        refused = await kit.create(worker, second)
        assert refused.status == 429
        assert "consumer" in refused.body["error"]
        await engine.wait_for(lambda _: engine.ends_told(second["request_idx"]) == {"Rejected"})
        # Told a second time, the worker does not wait for the grace to be over.
        worker.process.terminate()
        await kit.until(lambda: "a signal has come" in worker.log)
        worker.process.terminate()
        assert await worker.exit_code() == 0
        await gone(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_nothing_of_a_consumer_outlives_its_worker(
    engine: kit.StubEngine, tmp_path: Path, number: signal.Signals
) -> None:
    env = kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path, "with-child"))
    async with kit.worker(env, tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        pid, _ = await started(worker, auth_data["request_idx"])
        child = int((tmp_path / "child").read_text())
        assert os.getsid(pid) == os.getsid(worker.process.pid)
        assert os.getpgid(pid) != os.getpgid(worker.process.pid)
        os.killpg(worker.process.pid, number)  # as a terminal would, or a fleet that knows groups alone
        await worker.exit_code()
        await gone(pid)
        await gone(child)
        await kit.until(lambda: not kit.session_pids(worker.process.pid))


async def test_what_a_consumer_leaves_behind_is_ended_before_the_next(engine: kit.StubEngine, tmp_path: Path) -> None:
    kit.write_at_once(tmp_path / "exit", "0")
    async with kit.worker(
        kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path, "with-child")), tmp_path
    ) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))
        assert not kit.is_alive(int((tmp_path / "child").read_text()))


async def test_a_daemonised_job_holds_the_worker_until_it_ends(engine: kit.StubEngine, tmp_path: Path) -> None:
    """The consumer has ended with 0; nothing of its job outlives the reservation, and no other consumer starts."""
    script = (
        "setsid sh -c 'echo $$ > job.tmp; mv job.tmp job; exec sleep 600' & while ! test -e job; do sleep 0.02; done"
    )
    async with kit.worker(
        kit.worker_env(engine.url, NULL_CONSUMER=shlex.join(["sh", "-c", script])), tmp_path
    ) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        await kit.until(lambda: "The worker stays held until that has ended" in worker.log)
        job = int((tmp_path / "job").read_text())
        assert (await kit.call("GET", worker.control_url + "/reservation")).body["held"]
        assert (await kit.create(worker, engine.auth_data(worker.url))).status == 429
        await kit.post(worker.control_url + "/release")
        (tmp_path / "job").unlink()
        assert (await kit.create(worker, engine.auth_data(worker.url))).status == 201
        assert not kit.is_alive(job)
        await kit.post(worker.control_url + "/release")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start what it may not end")
async def test_a_consumer_that_cannot_be_ended_makes_the_worker_ill(engine: kit.StubEngine, tmp_path: Path) -> None:
    """As after ``sudo``: here of another user, below a worker that has lost the right to signal those."""
    weak = ["setpriv", "--bounding-set", "-kill", sys.executable, "-m", "workers.null.worker"]
    stubborn = "setpriv --reuid 65534 --clear-groups sh -c 'echo $$ >&2; exec sleep 600'"
    env = kit.worker_env(engine.url, NULL_CONSUMER=stubborn, NULL_CONSUMER_GRACE="0.2")
    async with kit.worker(env, tmp_path, *weak) as worker:
        await engine.ready()
        await kit.create(worker, engine.auth_data(worker.url))
        await kit.until(lambda: any(line.isdigit() for line in worker.log.splitlines()))
        pid = next(int(line) for line in worker.log.splitlines() if line.isdigit())
        try:
            await kit.post(worker.control_url + "/release")
            reason = f"The consumer left process {pid} (sleep: Operation not permitted), which could not be ended;"
            reason += " end it by hand: no other consumer starts beside it."
            await engine.wait_for(lambda report: report.body.get("error_msg") == reason)
            assert (await kit.create(worker, engine.auth_data(worker.url))).status == 503
        finally:
            os.kill(pid, signal.SIGKILL)


async def test_a_consumer_that_watches_a_command_for_idleness_does_not_count_itself(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    words = [sys.executable, "-m", "nullworker.cli.main", "consume", "--release-when-idle", "1.5", "--", "sleep", "600"]
    async with kit.worker(kit.worker_env(engine.url, NULL_CONSUMER=shlex.join(words)), tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))
        assert "has done nothing for 1.5 s" in worker.log
        await kit.until(lambda: len(kit.session_pids(worker.process.pid)) == 2)  # it, and a spare supervisor
        assert (await kit.call("GET", worker.control_url + "/health")).status == 200


async def test_a_supervisor_that_was_killed_leaves_nothing(engine: kit.StubEngine, tmp_path: Path) -> None:
    """By a machine without memory, say: what the kernel does not end with it is looked for and ended."""
    script = "setsid sleep 600 & echo $! > job; exec sleep 600"
    async with kit.worker(
        kit.worker_env(engine.url, NULL_CONSUMER=shlex.join(["sh", "-c", script])), tmp_path
    ) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        await kit.until(lambda: (tmp_path / "job").exists() and (tmp_path / "job").read_text().strip())
        job = int((tmp_path / "job").read_text())
        supervisor = next(pid for pid in kit.session_pids(worker.process.pid) if is_supervisor_at_work(pid))
        os.kill(supervisor, signal.SIGKILL)
        await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))
        assert not kit.is_alive(job)


def is_supervisor_at_work(pid: int) -> bool:
    process = psutil.Process(pid)
    return "supervisor_main.py" in " ".join(process.cmdline()) and bool(process.children())


async def test_a_consumer_goes_on_while_its_holder_keeps_it_and_is_alone(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    async with kit.worker(kit.worker_env(engine.url, NULL_CONSUMER=consumer(tmp_path)), tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await asyncio.gather(*(kit.create(worker, auth_data) for _ in range(5)))
        pid, _ = await started(worker, auth_data["request_idx"])
        names = [name for name in os.listdir(tmp_path) if "started" in name]  # noqa: PTH208 - a few names
        assert names == [f"started-{auth_data['request_idx']}"]
        assert kit.is_alive(pid)
        # The worker, its supervisor of the consumer, and the consumer: nothing started twice.
        assert len(kit.session_pids(worker.process.pid)) == 3


async def test_a_large_payload_is_left_to_the_control_port(well: tuple[kit.StubEngine, kit.WorkerProcess]) -> None:
    engine, worker = well
    auth_data = engine.auth_data(worker.url)
    payload = [1e9] * 10_000  # short as JSON that comes in, long as JSON that goes out
    body = json.dumps(
        {"auth_data": auth_data, "session_id": None, "payload": {"lifetime": 60, "on_close_payload": "@"}}
    ).replace('"@"', "[" + ",".join(["1e9"] * 10_000) + "]")
    opened = await kit.post(worker.url + "/session/create", data=body)
    assert opened.status == 201
    _, env = await started(worker, auth_data["request_idx"])
    assert "NULL_PAYLOAD" not in env
    assert (await kit.call("GET", worker.control_url + "/reservation")).body["payload"] == payload


async def test_a_consumer_that_has_nothing_to_do_is_asked_to_end_and_the_worker_stays_well(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    env = kit.worker_env(engine.url, NULL_CONSUMER="sleep 600", NULL_CONSUMER_RELEASE_WHEN_IDLE="1")
    async with kit.worker(env, tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        assert (await kit.create(worker, auth_data)).status == 201
        await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))
        assert (await kit.create(worker, engine.auth_data(worker.url))).status == 201
        assert not any(report.body.get("error_msg") for report in engine.reports)
