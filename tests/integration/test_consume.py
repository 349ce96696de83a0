"""``nullworker consume`` beside a real worker: the command runs while that is held, and no longer."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import json
import os
import signal
import struct
import sys
import termios
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.integration import null_worker_kit as kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Start = Callable[..., AbstractAsyncContextManager["Beside"]]

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: Writes down its process and environment, then does what its argument says.
COMMAND = """
    import json, os, signal, subprocess, sys, time, urllib.request
    what = sys.argv[1]
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if what == "warm":  # ends after the job in hand, as queue libraries do
        signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1.5), open("ended-warm", "w").close(), os._exit(0)))
    if what == "family":
        subprocess.Popen(["sleep", "600"])
    name = "started-" + os.environ["NULL_SESSION_ID"]
    with open(name + ".tmp", "w") as out:
        json.dump({"pid": os.getpid(), "env": dict(os.environ)}, out)
    os.replace(name + ".tmp", name)
    if what == "print":
        print("words of the command", flush=True)
    if what == "crash":
        print("half of it\\nCUDA error: out of memory, with", os.environ["HUB_TOKEN"], file=sys.stderr)
    if what == "release-and-crash":
        urllib.request.urlopen(urllib.request.Request(os.environ["NULL_CONTROL_URL"] + "/release", method="POST"))
        sys.exit(5)
    def beat():
        urllib.request.urlopen(urllib.request.Request(os.environ["NULL_CONTROL_URL"] + "/heartbeat", method="POST"))
        time.sleep(0.2)
    signs = {
        "busy": lambda: sum(range(1000)),
        "talk": lambda: (print(".", end="", flush=True), time.sleep(0.2)),
        "beat": beat,
        "fork": lambda: subprocess.run(["sleep", "0.3"]),
    }
    for name in signs if what == "signs" else ():
        busy_until = time.monotonic() + 4
        while time.monotonic() < busy_until:
            signs[name]()
        open("worked-" + name, "w").close()
    while not os.path.exists("exit"):
        time.sleep(0.02)
        if what == "gossip" and time.monotonic() % 0.3 < 0.02:
            print("[2026-11-27 17:46:39,887: INFO/MainProcess] sync with w4@vm", file=sys.stderr, flush=True)
    sys.exit(int(open("exit").read()))
"""


@dataclass
class Beside:
    """A worker, its engine, and a ``nullworker consume`` beside it."""

    engine: kit.StubEngine
    worker: kit.WorkerProcess
    process: asyncio.subprocess.Process
    directory: Path

    @property
    def said(self) -> str:
        return (self.directory / "consume.log").read_text()

    async def reserve(self, **payload: Any) -> tuple[str, dict[str, Any]]:
        auth_data = self.engine.auth_data(self.worker.url)
        opened = await kit.create(self.worker, auth_data, **payload)
        assert opened.status == 201, opened
        return opened.body["session_id"], auth_data

    async def started(self, session_id: str) -> tuple[int, dict[str, str]]:
        """The process and the environment of the command, once it runs."""
        note = self.directory / f"started-{session_id}"
        await kit.until(note.exists)
        found = json.loads(note.read_text())
        return found["pid"], found["env"]

    async def released(self, auth_data: dict[str, Any]) -> None:
        await self.engine.wait_for(lambda _: bool(self.engine.finished(auth_data["request_idx"])))

    async def until_held_past(self, session_id: str, end_s: float) -> None:
        """Waits until the worker says that this session lasts beyond a moment that is past by then."""
        while True:
            seen = await self.reservation()
            assert seen["session_id"] == session_id
            if kit.now_s() > end_s and seen["until"] > end_s:
                return
            await asyncio.sleep(0.1)

    async def reservation(self) -> dict[str, Any]:
        seen: dict[str, Any] = (await kit.call("GET", self.worker.control_url + "/reservation")).body
        return seen


@contextlib.asynccontextmanager
async def consuming(
    port: str, directory: Path, *arguments: str, output: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs ``nullworker consume`` in ``directory``; whatever happens, nothing of it is left.

    Args:
        port: the worker's control port.
        directory: where it starts.
        arguments: its own.
        output: where it writes to; None: a file.
    """
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(kit.ROOT), "NULL_CONTROL_PORT": port}
    environment["HUB_TOKEN"] = "hf_s3cret"
    with (directory / "consume.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nullworker.cli.main", "consume", *arguments),
            env=environment,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log if output is None else output,
            stderr=log if output is None else output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 15)
        for pid in kit.session_pids(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[kit.StubEngine, kit.WorkerProcess]]:
    """A worker for all tests that leave it as it was."""
    async with kit.ready_worker(tmp_path_factory.mktemp("worker")) as engine_and_worker:
        yield engine_and_worker


@pytest_asyncio.fixture(loop_scope="module")
async def beside(tmp_path: Path, shared: tuple[kit.StubEngine, kit.WorkerProcess]) -> Start:
    """Starts a ``nullworker consume`` of one of the commands above, beside the shared worker."""
    await kit.free(*shared)
    return functools.partial(beside_worker, *shared, tmp_path)


@pytest_asyncio.fixture(loop_scope="module")
async def beside_its_own(tmp_path: Path) -> AsyncIterator[Start]:
    """As ``beside``, with a worker that the test may spoil."""
    async with kit.ready_worker(tmp_path) as engine_and_worker:
        yield functools.partial(beside_worker, *engine_and_worker, tmp_path)


@contextlib.asynccontextmanager
async def beside_worker(
    engine: kit.StubEngine, worker: kit.WorkerProcess, directory: Path, what: str, *flags: str
) -> AsyncIterator[Beside]:
    program = directory / "command.py"
    program.write_text(textwrap.dedent(COMMAND))
    port = worker.env["NULL_CONTROL_PORT"]
    async with consuming(port, directory, *flags, "--", sys.executable, str(program), what) as process:
        yield Beside(engine, worker, process, directory)


async def gone(pid: int) -> None:
    await kit.until(lambda: not kit.is_alive(pid))


async def test_the_command_runs_once_for_each_reservation_and_its_end_releases(tmp_path: Path, beside: Start) -> None:
    kit.write_at_once(tmp_path / "exit", "0")
    async with beside("plain") as there:
        pids = set()
        for number in range(3):
            session_id, auth_data = await there.reserve(on_close_payload={"job": number})
            pid, env = await there.started(session_id)
            pids.add(pid)
            assert (env["NULL_SESSION_ID"], json.loads(env["NULL_PAYLOAD"])) == (session_id, {"job": number})
            assert (env["NULL_CONTROL_URL"], "MASTER_TOKEN" in env) == (there.worker.control_url, False)
            await there.released(auth_data)
        assert len(pids) == 3
        assert not any(report.body.get("error_msg") for report in there.engine.reports)
        assert there.process.returncode is None


async def test_a_release_reaches_the_command_and_all_that_it_started(beside: Start) -> None:
    async with beside("family") as there:
        session_id, auth_data = await there.reserve()
        pid, _ = await there.started(session_id)
        children = command_pids(there)
        assert len(children) == 3  # its supervisor, the command, and the command's child
        await kit.end(there.worker, session_id, auth_data)
        for each in children:
            await gone(each)
        assert not (await there.reservation())["held"]
        again, _ = await there.reserve()
        assert (await there.started(again))[0] != pid
        assert not any(report.body.get("error_msg") for report in there.engine.reports)


async def test_a_command_that_ignores_sigterm_is_killed_after_its_grace_and_never_runs_twice(beside: Start) -> None:
    """The next reservation may open before the one before is quite gone; its command waits for that."""
    async with beside("stubborn", "--grace", "1") as there:
        session_id, auth_data = await there.reserve()
        pid, _ = await there.started(session_id)
        await kit.end(there.worker, session_id, auth_data)
        next_id, _ = await there.reserve()
        await there.started(next_id)
        assert not kit.is_alive(pid)
        await kit.until(lambda: "ended with exit code 137" in there.said)
        assert (await there.reservation())["session_id"] == next_id  # the end of the first did not release the second


async def test_a_crash_is_reported_as_ill_health_with_its_last_words_and_ends_it(
    tmp_path: Path, beside_its_own: Start
) -> None:
    kit.write_at_once(tmp_path / "exit", "3")
    async with beside_its_own("crash") as there:
        _, auth_data = await there.reserve()
        reason = "The consumer ended with exit code 3 while its reservation was open"
        reason += ": CUDA error: out of memory, with ***"
        await there.engine.wait_for(lambda report: report.body.get("error_msg") == reason)
        await there.released(auth_data)
        assert await asyncio.wait_for(there.process.wait(), kit.HANG_S) == 1
        assert "half of it\n" in there.said
        assert reason in there.said
        assert (await kit.call("GET", there.worker.control_url + "/health")).status == 500


async def test_a_command_that_has_released_by_itself_may_end_as_it_likes(beside: Start) -> None:
    async with beside("release-and-crash") as there:
        for count in (1, 2):
            session_id, auth_data = await there.reserve()
            await there.started(session_id)
            await there.released(auth_data)
            await kit.until(lambda n=count: there.said.count("the command ended with") == n)  # type: ignore[misc]
        assert (await kit.call("GET", there.worker.control_url + "/health")).status == 200
        assert there.process.returncode is None


def command_pids(there: Beside) -> list[int]:
    """Processes of ``nullworker consume``'s session but itself."""
    return [pid for pid in kit.session_pids(there.process.pid) if pid != there.process.pid]


async def test_kept_alive_the_worker_stays_held_while_the_command_runs(tmp_path: Path, beside: Start) -> None:
    """The client may be gone: the job is done first, however idle it looks."""
    async with beside("plain", "--keep-alive") as there:
        session_id, auth_data = await there.reserve(lifetime=4)
        await there.started(session_id)
        until = (await there.reservation())["until"]
        # Beyond the lifetime, and the five seconds that the framework may take to notice that it is over.
        await there.until_held_past(session_id, until + 6)
        kit.write_at_once(tmp_path / "exit", "0")
        await there.released(auth_data)


async def test_otherwise_the_command_ends_with_the_lifetime_of_the_reservation(beside: Start) -> None:
    async with beside("plain") as there:
        session_id, auth_data = await there.reserve(lifetime=4)
        pid, _ = await there.started(session_id)
        await there.released(auth_data)
        await gone(pid)
        assert not any(report.body.get("error_msg") for report in there.engine.reports)


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
async def test_ctrl_c_ends_the_command_and_gives_the_worker_back(
    beside: Start, sign: signal.Signals, code: int
) -> None:
    async with beside("family") as there:
        session_id, auth_data = await there.reserve()
        pid, _ = await there.started(session_id)
        os.kill(there.process.pid, sign)
        assert await asyncio.wait_for(there.process.wait(), kit.HANG_S) == code
        assert not kit.is_alive(pid)
        assert kit.session_pids(there.process.pid) == []
        await there.released(auth_data)
        assert not any(report.body.get("error_msg") for report in there.engine.reports)
        assert "Traceback" not in there.said


async def test_killed_it_leaves_no_command_behind(beside: Start) -> None:
    async with beside("family") as there:
        session_id, _ = await there.reserve()
        pid, _ = await there.started(session_id)
        there.process.kill()
        await gone(pid)


async def test_killed_and_started_again_it_starts_the_command_when_the_one_before_has_ended(
    tmp_path: Path, beside: Start
) -> None:
    async with beside("stubborn", "--grace", "1") as there:
        session_id, _ = await there.reserve()
        pid, _ = await there.started(session_id)
        there.process.kill()
        (tmp_path / f"started-{session_id}").unlink()
        async with consuming(there.worker.env["NULL_CONTROL_PORT"], tmp_path, "--grace", "1", "--", *plain(tmp_path)):
            again, _ = await there.started(session_id)
            assert again != pid
            assert not kit.is_alive(pid)
            await kit.post(there.worker.control_url + "/release")


async def test_a_second_one_beside_the_same_worker_starts_nothing(tmp_path: Path, beside: Start) -> None:
    async with beside("plain") as there:
        session_id, _ = await there.reserve()
        pid, _ = await there.started(session_id)
        port = there.worker.env["NULL_CONTROL_PORT"]
        async with consuming(port, tmp_path, "--grace", "0", "--", *plain(tmp_path)) as second:
            assert await asyncio.wait_for(second.wait(), kit.HANG_S) == 1
        assert "Another program already runs a command" in there.said
        assert kit.is_alive(pid)
        assert (await there.reservation())["session_id"] == session_id
        assert (await kit.call("GET", there.worker.control_url + "/health")).status == 200


async def test_a_reader_of_its_output_that_stalls_keeps_nothing_from_the_command(
    tmp_path: Path, shared: tuple[kit.StubEngine, kit.WorkerProcess]
) -> None:
    """A full pipe at its own standard output and error: the command has SIGTERM and its grace all the same."""
    await kit.free(*shared)
    engine, worker = shared
    script = """
        import os, signal, sys
        signal.signal(signal.SIGTERM, lambda *_: (open("had-sigterm", "w").close(), os._exit(0)))
        open("writes", "w").close()
        os.write(2, b"x" * 300_000)
    """
    read, write = os.pipe()
    words = ["--grace", "60", "--", sys.executable, "-S", "-c", textwrap.dedent(script)]
    async with consuming(worker.env["NULL_CONTROL_PORT"], tmp_path, *words, output=write) as process:
        auth_data = engine.auth_data(worker.url)
        opened = await kit.create(worker, auth_data)
        await kit.until((tmp_path / "writes").exists)
        await kit.until(lambda: is_full(read))
        await kit.end(worker, opened.body["session_id"], auth_data)
        await kit.until((tmp_path / "had-sigterm").exists)
        await kit.until(lambda: len(kit.session_pids(process.pid)) == 2)  # itself, and a spare supervisor
        process.terminate()
        assert await asyncio.wait_for(process.wait(), kit.HANG_S) == 143
    os.close(read)
    os.close(write)


def plain(directory: Path) -> tuple[str, ...]:
    return sys.executable, str(directory / "command.py"), "plain"


def is_full(pipe: int) -> bool:
    """Whether a pipe that nothing reads holds all it can."""
    (there,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
    return bool(there >= 60_000)


async def test_the_end_of_the_worker_is_the_end_of_the_command(tmp_path: Path, beside_its_own: Start) -> None:
    """Its reservation died with it; a worker that comes back is served again."""
    async with beside_its_own("plain") as there:
        session_id, _ = await there.reserve()
        pid, _ = await there.started(session_id)
        there.worker.process.kill()
        await gone(pid)
        assert there.process.returncode is None
        async with kit.worker(there.worker.env, tmp_path):
            seen = len(there.engine.reports)
            await there.engine.wait_for(lambda _: len(there.engine.reports) > seen)
            await kit.until(lambda: "the worker's control port answers" in there.said)
            next_id, _ = await there.reserve()
            await there.started(next_id)


class TestReleaseWhenIdle:
    async def test_a_command_that_does_nothing_is_asked_to_end(self, beside: Start) -> None:
        async with beside("plain", "--release-when-idle", "1.5") as there:
            session_id, auth_data = await there.reserve()
            await there.started(session_id)
            await there.released(auth_data)
            assert "has done nothing for 1.5 s" in there.said
            assert not any(report.body.get("error_msg") for report in there.engine.reports)
            again, _ = await there.reserve()
            await there.started(again)

    async def test_one_that_says_only_that_others_come_and_go_is_asked_to_end(
        self, tmp_path: Path, beside: Start
    ) -> None:
        async with beside("gossip", "--release-when-idle", "1") as there:
            _, auth_data = await there.reserve()
            await there.released(auth_data)
            assert "has done nothing for 1 s" in there.said
            assert "sync with w4@vm" in there.said

    @pytest.mark.long
    async def test_any_sign_of_work_is_work(self, tmp_path: Path, beside: Start) -> None:
        """One sign after the other, each for longer than it takes to be idle."""
        async with beside("signs", "--release-when-idle", "2.5") as there:
            _, auth_data = await there.reserve()
            await there.released(auth_data)
            worked = [sign for sign in ("busy", "talk", "beat", "fork") if (tmp_path / f"worked-{sign}").exists()]
            assert worked == ["busy", "talk", "beat", "fork"]

    @pytest.mark.long
    async def test_one_that_had_just_begun_a_job_is_given_its_time(self, tmp_path: Path, beside: Start) -> None:
        """It is asked, and not killed: the worker stays held until it has ended by itself, later than any grace."""
        async with beside("warm", "--release-when-idle", "1", "--grace", "0.2") as there:
            _, auth_data = await there.reserve()
            await there.released(auth_data)
            assert (tmp_path / "ended-warm").exists()

    async def test_what_the_command_prints_is_passed_on(self, beside: Start) -> None:
        async with beside("print", "--release-when-idle", "1") as there:
            _, auth_data = await there.reserve()
            await there.released(auth_data)
            assert "words of the command\n" in there.said


async def test_it_needs_nothing_but_what_a_vast_instance_installs() -> None:
    """Of what is installed here, only what requirements.txt brings is loaded."""
    script = (
        "import sys, nullworker.cli.consume, nullworker.worker.consume_command\n"
        "ours = {'msgspec', 'uvloop', 'redis', 'cryptography', 'flask', 'nullworker.core', 'nullworker.engine'}\n"
        "print(sorted(ours & set(sys.modules)))"
    )
    program = [sys.executable, "-c", script]
    process = await asyncio.create_subprocess_exec(*program, cwd=kit.ROOT, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert said.strip() == b"[]"
