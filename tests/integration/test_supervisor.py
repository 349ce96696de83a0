"""Nothing of a command outlives its reservation, wherever it has gone; what cannot be ended is reported.

The supervisor is the real program, and so are all processes here.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from nullworker.worker import supervisor_main
from nullworker.worker.command_processes import Cgroup, _own_cgroup
from nullworker.worker.supervisor import Order, Supervisor
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

GRACE_S = 0.5
NOBODY = 65_534

#: Starts what its arguments name, each a process that writes its number to a file of that name; then goes on or exits.
COMMAND = """
    import os, subprocess, sys, time
    sleep = [sys.executable, "-S", "-c", "import os, time; time.sleep(600)"]
    def note(name, pid):
        with open(name + ".tmp", "w") as out:
            out.write(str(pid))
        os.rename(name + ".tmp", name)
    def daemon(env):  # forks twice, in a session of its own, and leaves nothing of the way there
        if os.fork() == 0:
            os.setsid()
            pid = os.fork()
            if pid:
                os._exit(0)
            note("daemon" if env else "bare", os.getpid())
            os.execve(sleep[0], sleep, env)
    for name in sys.argv[2:]:
        if name == "child":
            note(name, subprocess.Popen(sleep).pid)
        if name == "session":
            note(name, subprocess.Popen(sleep, start_new_session=True).pid)
        if name == "group":
            note(name, subprocess.Popen(sleep, preexec_fn=os.setpgrp).pid)
        if name == "daemon":
            daemon(dict(os.environ))
        if name == "bare":
            daemon({})
    while not all(os.path.exists(name) for name in sys.argv[2:]):
        time.sleep(0.01)
    note("started", os.getpid())
    if sys.argv[1] != "stay":
        sys.exit(int(sys.argv[1]))
    time.sleep(600)
"""


@dataclass
class Supervised:
    """A supervisor, and what it was told to run."""

    process: subprocess.Popen[bytes]
    report: int
    folder: Path
    session_id: str
    cgroup: Cgroup
    errors: Any = field(default=None)

    def tell(self, command: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command)
        self.process.stdin.flush()

    def pid(self, name: str) -> int:
        """The number that was noted under a name, once it is."""
        until((self.folder / name).exists)
        return int((self.folder / name).read_text())

    def ended(self) -> tuple[int, dict[str, Any], str]:
        """The exit code, the report, and the end of standard error, when the supervisor has ended."""
        code = self.process.wait(HANG_S)
        facts, _, written = self.close().partition(b"\n")
        return code, json.loads(facts), written.decode()

    def close(self) -> bytes:
        """Closes our ends of all pipes; returns the report."""
        for pipe in (self.process.stdin, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        report = os.read(self.report, 65_536)
        os.close(self.report)
        return report

    def kill(self) -> None:
        """Ends the supervisor itself."""
        self.process.kill()
        self.process.wait(HANG_S)
        assert self.close() == b""


needs_cgroups = pytest.mark.skipif(
    not _own_cgroup() or not os.access(_own_cgroup(), os.W_OK), reason="no cgroup of version 2 can be made here"
)


def until(check: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + HANG_S
    while not check():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where commands note what they start; whatever happens, nothing of that is left."""
    (tmp_path / "command.py").write_text(textwrap.dedent(COMMAND))
    yield tmp_path
    for note in tmp_path.iterdir():
        if note.suffix == "" and note.is_file() and note.read_text().isdigit():
            with contextlib.suppress(OSError):
                os.kill(int(note.read_text()), signal.SIGKILL)
    for cgroup in made_here:
        give_up_at = time.monotonic() + HANG_S
        while list(cgroup.pids()):
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        cgroup.remove()
    made_here.clear()


#: The cgroups of this test.
made_here: list[Cgroup] = []


def supervise(
    folder: Path,
    command: list[str] | None,
    *,
    session_id: str = "",
    place: str = "",
    below: Sequence[str] = (),
    stderr: int | None = None,
    cgroup: Cgroup | None = None,
    **order: Any,
) -> Supervised:
    """Starts a supervisor and gives it its order.

    Args:
        folder: where the command starts.
        command: the order's.
        session_id: of the reservation; "" for one of its own.
        place: the order's.
        below: the program that starts the supervisor, with its arguments.
        stderr: the supervisor's.
        cgroup: of an earlier supervisor; None for one of its own.
        order: more of its keys.
    """
    session_id = session_id or uuid.uuid4().hex
    cgroup = cgroup or Cgroup.named(f"nullworker-{uuid.uuid4().hex}")
    made_here.append(cgroup)
    read, write = os.pipe()
    process = subprocess.Popen(
        [*below, sys.executable, "-I", "-S", supervisor_main.__file__, str(write), cgroup.path],
        stdin=subprocess.PIPE,
        stderr=stderr,
        pass_fds=(write,),
        cwd=folder,
    )
    os.close(write)
    env = {"PATH": os.environ["PATH"], "NULL_SESSION_ID": session_id}
    facts = {
        "command": command,
        "env": {**env, **({"NULL_CONTROL_URL": place.partition("=")[2]} if place else {})},
        "directory": str(folder),
        "mark": f"NULL_SESSION_ID={session_id}",
        "place": place,
        "grace_s": GRACE_S,
        "background_s": None,
        **order,
    }
    supervised = Supervised(process, read, folder, session_id, cgroup)
    supervised.tell(json.dumps(facts).encode() + b"\n")
    return supervised


def starts(what: str, *names: str) -> list[str]:
    return [sys.executable, "-S", "command.py", what, *names]


KINDS = ("child", "session", "group", "daemon", "bare")


@pytest.mark.parametrize("order", [b"t", b"k", b""], ids=["terminate", "kill", "the worker's end"])
def test_all_that_a_command_started_ends_with_its_reservation(folder: Path, order: bytes) -> None:
    run = supervise(folder, starts("stay", *KINDS))
    command = run.pid("started")
    pids = [run.pid(name) for name in KINDS]
    assert all(lives(pid) for pid in pids)
    if order:
        run.tell(order)
    elif run.process.stdin is not None:
        run.process.stdin.close()
    code, report, _ = run.ended()
    assert code in ((137, 143) if order == b"k" else (143,))
    assert report == {"left": [], "is_busy": False}
    assert [pid for pid in (command, *pids) if lives(pid)] == []


def test_all_that_a_command_that_failed_left_is_ended(folder: Path) -> None:
    run = supervise(folder, starts("3", *KINDS))
    pids = [run.pid(name) for name in KINDS]
    assert run.ended()[0] == 3
    assert [pid for pid in pids if lives(pid)] == []


@pytest.mark.parametrize("kind", ["session", "group", "daemon", "bare"])
def test_a_daemonised_job_is_not_done_before_it_ends(folder: Path, kind: str) -> None:
    """The command has ended with 0, and its job goes on: what it left in its group is ended, the job is not."""
    run = supervise(folder, starts("0", "child", kind))
    job, command = run.pid(kind), run.pid("started")
    until(lambda: not lives(command) and not lives(run.pid("child")))
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(2 * GRACE_S)  # longer than what is ended has
    assert lives(job)
    os.kill(job, signal.SIGKILL)
    code, report, _ = run.ended()
    assert (code, report["left"]) == (137, [])  # a job that was killed is not done either


def test_how_long_a_daemonised_job_goes_on_can_be_limited(folder: Path) -> None:
    run = supervise(folder, starts("0", "daemon"), background_s=0.0)
    assert run.ended()[0] == 0
    assert not lives(run.pid("daemon"))


def test_the_end_of_the_reservation_ends_a_daemonised_job(folder: Path) -> None:
    run = supervise(folder, starts("0", "daemon", "bare"))
    command = run.pid("started")
    until(lambda: not lives(command))
    run.tell(b"t")
    assert run.ended()[0] == 0
    assert not lives(run.pid("daemon"))
    assert not lives(run.pid("bare"))


def test_it_is_said_that_the_worker_stays_held_for_a_daemonised_job(folder: Path) -> None:
    run = supervise(folder, starts("0", "daemon"), stderr=subprocess.PIPE)
    assert run.process.stderr is not None
    said = run.process.stderr.readline().decode()
    assert f"goes on: process {run.pid('daemon')} (python" in said
    run.tell(b"t")
    run.ended()


def test_one_that_has_ended_and_is_reaped_by_nothing_is_not_waited_for(folder: Path) -> None:
    """As in a container whose first process reaps nothing: here a daemon's child, in the command's group."""
    script = """
        import os, subprocess, time
        if os.fork():
            while not os.path.exists("session"):
                time.sleep(0.01)
            os._exit(0)
        child = subprocess.Popen(["true"])  # of the command's group; never reaped
        while open(f"/proc/{child.pid}/stat").read().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        os.setsid()
        open("session.tmp", "w").write(str(os.getpid()))
        os.rename("session.tmp", "session")
        while not os.path.exists("go"):
            time.sleep(0.01)
    """
    run = supervise(folder, [sys.executable, "-S", "-c", textwrap.dedent(script)])
    run.pid("session")
    (folder / "go").write_text("")
    assert run.ended()[:2] == (0, {"left": [], "is_busy": False})


class TestInit:
    """A supervisor below a first process that reaps nothing, as ``sleep infinity`` does in many a container."""

    #: Becomes the parent of all orphans below it, and never waits for any.
    INIT = """
        import ctypes, subprocess, sys, time
        ctypes.CDLL(None).prctl(36, 1)
        subprocess.Popen(sys.argv[1:], pass_fds=[int(sys.argv[-2])])
        time.sleep(600)
    """

    @pytest.mark.parametrize("names", [("child",), ("daemon",)])
    def test_a_short_lived_child_does_not_hold_the_worker(self, folder: Path, names: tuple[str, ...]) -> None:
        read, write = os.pipe()
        command = [sys.executable, "-I", "-S", supervisor_main.__file__, str(write), ""]
        init = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(self.INIT), *command], stdin=subprocess.PIPE, pass_fds=(write,)
        )
        os.close(write)
        try:
            run = Supervised(init, read, folder, "s", Cgroup(""))
            order = {
                "command": starts("0", *names), "env": {"NULL_SESSION_ID": "init"}, "directory": str(folder),
                "mark": "NULL_SESSION_ID=init", "place": "", "grace_s": GRACE_S, "background_s": 0.0,
            }  # fmt: skip
            run.tell(json.dumps(order).encode() + b"\n")
            supervisor = waited_for(init.pid).pid
            run.pid(names[0])
            until(lambda: not lives(supervisor))
            assert psutil.Process(supervisor).status() == psutil.STATUS_ZOMBIE  # the test's init reaps nothing
            init.kill()
            init.wait()
            assert json.loads(run.close().partition(b"\n")[0])["left"] == []
        finally:
            init.kill()


def waited_for(pid: int) -> psutil.Process:
    """The first child of a process, as soon as there is one."""
    until(lambda: psutil.Process(pid).children())
    return psutil.Process(pid).children()[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start what it may not end")
def test_what_may_not_be_signalled_is_reported_with_the_reason(folder: Path) -> None:
    """As after ``sudo``: here of another user, below a supervisor that has lost the right to signal those."""
    weak = ["setpriv", "--bounding-set", "-kill"]
    run = supervise(folder, ["setpriv", "--reuid", str(NOBODY), "--clear-groups", "sleep", "600"], below=weak)
    command = waited_for(run.process.pid)
    try:
        until(lambda: command.name() == "sleep" and command.uids().saved == NOBODY)
        run.tell(b"t")
        assert run.ended()[1]["left"] == [f"process {command.pid} (sleep: Operation not permitted)"]
    finally:
        command.kill()


def test_a_reader_that_stalls_keeps_no_signal_from_the_command(folder: Path) -> None:
    """A full pipe at our own standard error: the command has its grace, and what it wrote last is known."""
    script = """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (open("had-sigterm", "w").close(), os._exit(7)))
        open("started", "w").write(str(os.getpid()))
        for _ in range(3000):
            os.write(2, b"x" * 99 + b"\\n")
    """
    read, write = os.pipe()
    run = supervise(folder, [sys.executable, "-S", "-c", textwrap.dedent(script)], stderr=write, grace_s=HANG_S)
    os.close(write)
    until((folder / "started").exists)
    os.set_blocking(read, False)
    until(lambda: is_full(read))
    run.tell(b"t")
    code, report, written = run.ended()
    assert (code, report["left"]) == (7, [])
    assert (folder / "had-sigterm").exists()
    assert written.endswith("x\n")
    os.close(read)


def is_full(pipe: int) -> bool:
    """Whether a pipe that nothing reads takes no more. How many bytes that is depends on how they were written."""
    before = _filled(pipe)
    time.sleep(0.2)
    return before > 0 and _filled(pipe) == before


def _filled(pipe: int) -> int:
    (there,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
    return int(there)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_ends_nothing(folder: Path, number: signal.Signals) -> None:
    """A terminal that is closed sends it to all processes; the worker says what becomes of the command."""
    run = supervise(folder, starts("stay"))
    command = run.pid("started")
    run.process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(0.3)
    assert lives(command)
    run.tell(b"t")
    assert run.ended()[0] == 143


class TestContainers:
    """``docker run``: the client ends, and the work is a child of an engine that was there before."""

    #: Stands in for the engine: starts the work in the environment that it is given, and reaps it.
    ENGINE = """
        import os, subprocess, sys, time
        env = dict(word.split("=") for word in sys.argv[1:])
        work = subprocess.Popen(["sleep", "600"], env=env, start_new_session=True)
        open("work.tmp", "w").write(str(work.pid))
        os.rename("work.tmp", "work")
        sys.exit(work.wait() and 0)
    """

    @contextlib.contextmanager
    def engine(self, folder: Path, *env: str) -> Iterator[int]:
        script = textwrap.dedent(self.ENGINE)
        path = f"PATH={os.environ['PATH']}"
        with subprocess.Popen([sys.executable, "-S", "-c", script, path, *env], cwd=folder) as engine:
            until((folder / "work").exists)
            try:
                yield int((folder / "work").read_text())
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int((folder / "work").read_text()), signal.SIGKILL)
                engine.wait(HANG_S)

    def test_work_that_has_the_variable_is_found(self, folder: Path) -> None:
        session_id = uuid.uuid4().hex
        with self.engine(folder, f"NULL_SESSION_ID={session_id}") as work:
            run = supervise(folder, ["true"], session_id=session_id)
            with pytest.raises(subprocess.TimeoutExpired):
                run.process.wait(2 * GRACE_S)
            assert lives(work)  # it is not done: the worker stays held
            run.tell(b"t")
            assert run.ended()[:2] == (0, {"left": [], "is_busy": False})
            assert not lives(work)

    def test_work_without_it_is_left_alone(self, folder: Path) -> None:
        with self.engine(folder) as work:
            assert supervise(folder, ["true"]).ended()[:2] == (0, {"left": [], "is_busy": False})
            assert lives(work)


class TestAfterAKill:
    """The supervisor itself was killed, by a machine without memory, say."""

    def test_what_it_left_is_found_by_the_variable(self, folder: Path) -> None:
        run = supervise(folder, starts("stay", "child", "session", "daemon"))
        command = run.pid("started")
        run.kill()
        until(lambda: not lives(command))  # by the kernel
        assert supervise(folder, None, session_id=run.session_id).ended()[:2] == (0, {"left": [], "is_busy": False})
        assert not any(lives(run.pid(name)) for name in ("child", "session", "daemon"))

    @needs_cgroups
    def test_what_has_no_environment_is_found_by_the_cgroup(self, folder: Path) -> None:
        run = supervise(folder, starts("stay", "bare"))
        run.pid("started")
        run.kill()
        assert lives(run.pid("bare"))
        sweep = supervise(folder, None, session_id=run.session_id, cgroup=run.cgroup)
        assert sweep.ended()[:2] == (0, {"left": [], "is_busy": False})
        assert not lives(run.pid("bare"))
        assert list(run.cgroup.pids()) == []

    def test_what_an_earlier_worker_left_on_the_same_port_is_ended_before_the_first_command(self, folder: Path) -> None:
        place = f"NULL_CONTROL_URL=http://127.0.0.1:{os.getpid()}"  # of no other test's worker
        run = supervise(folder, starts("stay", "daemon"), place=place)
        left = run.pid("daemon")
        run.pid("started")
        run.kill()
        (folder / "started").unlink()
        after = supervise(folder, starts("stay"), place=place)
        after.pid("started")
        assert not lives(left)
        after.tell(b"t")
        after.ended()


@needs_cgroups
class TestTheCgroup:
    """Each supervisor has one, with its command, and none is left."""

    def test_the_worker_removes_it(self, folder: Path) -> None:
        async def runs() -> tuple[int, str]:
            supervisor = await Supervisor.spawn()
            cgroup = supervisor._cgroup
            supervisor.start(Order(starts("stay"), "s", {}, str(folder)))
            while not os.path.exists(folder / "started"):  # noqa: ASYNC110, ASYNC240, PTH110 - another process makes it
                await asyncio.sleep(0.01)
            inside = len(list(cgroup.pids()))
            supervisor.hurry()
            await supervisor.ended
            return inside, cgroup.path

        inside, path = asyncio.run(runs())
        assert inside == len(["the supervisor", "its command"])
        assert not Path(path).exists()

    def test_the_supervisor_removes_it_when_its_worker_has_gone(self, folder: Path) -> None:
        run = supervise(folder, starts("stay"), below=("sh", "-c", '"$0" "$@"; exit'))
        command = run.pid("started")
        assert command in run.cgroup.pids()
        run.process.kill()
        run.process.wait(HANG_S)
        run.close()  # which tells the supervisor
        until(lambda: not Path(run.cgroup.path).exists())
        assert not lives(command)


def test_no_command_starts_while_another_supervisor_runs_one_for_the_same_reservation(folder: Path) -> None:
    place = f"NULL_CONTROL_URL=http://127.0.0.1:{os.getpid()}"
    first = supervise(folder, starts("stay"), place=place)
    command = first.pid("started")
    second = supervise(folder, starts("stay"), session_id=first.session_id, place=place, grace_s=0.0)
    assert second.ended()[:2] == (0, {"left": [], "is_busy": True})
    assert lives(command)
    # And it does start as soon as that has ended: one that was killed is started again, say.
    third = supervise(folder, starts("0"), session_id=first.session_id, place=place, grace_s=60.0)
    first.tell(b"t")
    assert first.ended()[0] == 143
    assert third.ended()[:2] == (0, {"left": [], "is_busy": False})


def test_what_another_supervisor_has_begun_since_for_the_same_reservation_is_not_ended(folder: Path) -> None:
    """The next may begin while this one looks for the last time whether anything is left."""
    first = supervise(folder, starts("0", "daemon"))
    daemon = first.pid("daemon")
    first.pid("started")
    (folder / "started").unlink()
    second = supervise(folder, starts("stay"), session_id=first.session_id)
    command = second.pid("started")
    first.tell(b"k")
    assert first.ended()[:2] == (0, {"left": [], "is_busy": False})
    assert not lives(daemon)
    assert lives(command)
    second.tell(b"t")
    assert second.ended()[0] == 143
