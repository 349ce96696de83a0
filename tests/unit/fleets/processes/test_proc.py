"""What the kernel's table says of real processes."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.processes import proc
from nullworker.fleets.processes.proc import Belongings, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: Of this test process alone: other tests on the machine look for instances at the same time, and in a namespace of
#: processes another one may have our number.
PLACE = f"/place-{secrets.token_hex(8)}"
IDLE = [sys.executable, "-S", "-c", "import signal; signal.pause()"]


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes of an instance; all have ended when the test has."""
    started: list[subprocess.Popen[bytes]] = []

    def start(directory: str = "", **options: object) -> subprocess.Popen[bytes]:
        env = {proc.INSTANCE_VARIABLE: directory} if directory else {"A": "b"}
        started.append(subprocess.Popen(IDLE, env=env, start_new_session=True, **options))  # type: ignore[call-overload] # passed on as they came
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def named(process: subprocess.Popen[bytes]) -> Process:
    line = proc.stat(process.pid)
    assert line is not None
    return line.process


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGKILL) -> None:
    """Ends a child and leaves it in the table."""
    process.send_signal(number)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def test_this_process_is_alive_and_is_itself() -> None:
    line = proc.stat(os.getpid())
    assert line is not None
    assert line.alive
    assert not line.is_kernel_thread
    assert line.session_id == os.getsid(0)
    assert proc.is_alive(line.process)
    assert os.getpid() in proc.pids()


def test_a_name_with_parentheses_and_spaces_is_read(tmp_path: Path) -> None:
    """A process chooses its own name, which stands in the middle of the kernel's line."""
    program = tmp_path / "a) S (0 b"
    program.symlink_to(sys.executable)
    process = subprocess.Popen([program, *IDLE[1:]])
    try:
        line = proc.stat(process.pid)
        assert line is not None
        assert line.alive
        assert line.session_id == os.getsid(process.pid)
    finally:
        process.kill()
        process.wait()


def test_a_zombie_is_not_alive(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn()
    who = named(process)
    assert proc.is_alive(who)
    end(process)
    assert not proc.is_alive(who)
    assert proc.stat(process.pid) is not None


def test_the_same_number_with_another_start_is_another_process(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    """It is not alive in the other's name, and not signalled in it."""
    process = spawn()
    other = Process(process.pid, named(process).start_ticks - 1)
    assert not proc.is_alive(other)
    assert not proc.is_alive(None)
    proc.send_signal(other, signal.SIGKILL)
    assert proc.exit_status(other, reap=True) is None
    who = named(process)
    end(process, signal.SIGTERM)
    assert proc.exit_status(who, reap=False) == "killed by signal 15 (SIGTERM)"


def test_the_instance_of_a_process_that_was_just_started_is_known(
    spawn: Callable[..., subprocess.Popen[bytes]],
) -> None:
    """For an instant after its birth a process has no environment; that is waited for."""
    for _ in range(40):
        process = spawn("/instances/1")
        assert proc.instance_of(process.pid) == "/instances/1"


def test_a_process_of_no_instance_has_none(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn()
    assert proc.instance_of(process.pid) is None
    end(process)
    assert proc.instance_of(process.pid) is None
    assert proc.instance_of(2) is None  # a kernel thread, or no process


def test_a_process_without_any_environment_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proc, "STARTING_S_MAX", 0.05)
    process = subprocess.Popen(IDLE, env={})
    try:
        assert proc.instance_of(process.pid) is None
    finally:
        process.kill()
        process.wait()


def test_marked_processes_are_found_by_where_their_instances_are(
    spawn: Callable[..., subprocess.Popen[bytes]],
) -> None:
    ours, theirs = spawn(f"{PLACE}/mark/1"), spawn(f"{PLACE}/mark-two/1")
    found = proc.marked_processes(f"{PLACE}/mark")
    assert {directory: [line.process for line in lines] for directory, lines in found.items()} == {
        f"{PLACE}/mark/1": [named(ours)]
    }
    assert proc.is_alive(named(theirs))


def test_a_session_is_found_by_its_leader_and_the_rest_by_its_environment(
    spawn: Callable[..., subprocess.Popen[bytes]],
) -> None:
    leader, left = spawn(f"{PLACE}/1"), spawn(f"{PLACE}/1")
    wanted = [Belongings(f"{PLACE}/1", named(leader)), Belongings(f"{PLACE}/2", None)]
    assert proc.find(wanted, thorough=False) == {f"{PLACE}/1": {named(leader)}, f"{PLACE}/2": set()}
    assert proc.find(wanted, thorough=True) == {f"{PLACE}/1": {named(leader), named(left)}, f"{PLACE}/2": set()}


def test_a_session_whose_number_now_means_another_is_not_found(
    spawn: Callable[..., subprocess.Popen[bytes]],
) -> None:
    """Two instances may have had leaders of the same number, one after the other."""
    process = spawn(f"{PLACE}/2")
    before = Process(process.pid, named(process).start_ticks - 1)
    wanted = [Belongings(f"{PLACE}/1", before), Belongings(f"{PLACE}/2", named(process))]
    for thorough in (False, True):
        assert proc.find(wanted, thorough=thorough) == {f"{PLACE}/1": set(), f"{PLACE}/2": {named(process)}}


@pytest.mark.parametrize(
    ("directory", "is_found"), [(f"{PLACE}/1", True), ("/elsewhere", False)], ids=["marked", "not marked"]
)
def test_a_session_without_its_leader_needs_a_marked_member(
    spawn: Callable[..., subprocess.Popen[bytes]], directory: str, is_found: bool
) -> None:
    """With the leader gone from the table, one member with the instance's name shows whose session it is."""
    script = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid, flush=True)"
    leader = subprocess.Popen(
        [sys.executable, "-S", "-c", script, *IDLE],
        env={proc.INSTANCE_VARIABLE: directory},
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    who = named(leader)
    assert leader.stdout is not None
    orphan = int(leader.stdout.readline())
    leader.stdout.close()
    leader.wait()
    try:
        found = proc.find([Belongings(f"{PLACE}/1", who)], thorough=False)
        assert {process.pid for process in found[f"{PLACE}/1"]} == ({orphan} if is_found else set())
    finally:
        os.kill(orphan, signal.SIGKILL)


def test_how_a_child_ended_is_told_until_it_is_reaped(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn()
    who = named(process)
    assert proc.exit_status(who, reap=False) is None
    end(process, signal.SIGKILL)
    assert proc.exit_status(who, reap=False) == "killed by signal 9 (SIGKILL)"
    assert proc.exit_status(who, reap=True) == "killed by signal 9 (SIGKILL)"
    assert proc.exit_status(who, reap=True) is None
    assert proc.stat(who.pid) is None


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", f"import os; os.kill(os.getpid(), {signal.SIGRTMIN + 1})"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert proc.exit_status(named(process), reap=False) == f"killed by signal {signal.SIGRTMIN + 1}"
    process.wait()


def test_an_exit_code_is_told() -> None:
    process = subprocess.Popen([sys.executable, "-S", "-c", "raise SystemExit(7)"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert proc.exit_status(named(process), reap=False) == "exit code 7"
    process.wait()


def test_a_process_that_is_not_a_child_has_no_status_that_could_be_known() -> None:
    line = proc.stat(os.getppid())
    assert line is not None
    assert proc.exit_status(line.process, reap=False) is None


def test_signalling_one_that_has_gone_is_no_error(spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = spawn()
    who = named(process)
    end(process)
    proc.send_signal(who, signal.SIGTERM)
    process.wait()
    proc.send_signal(who, signal.SIGTERM)
