"""Endings return when nothing is left, and say so when something cannot be ended."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes import ending, proc
from nullworker.fleets.processes.ending import Endings
from nullworker.fleets.processes.proc import Belongings, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Of this test process alone: other tests on the machine look for instances at the same time.
PLACE = f"/place-{secrets.token_hex(8)}"
IDLE = "import signal; signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {IDLE}"


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def spawn() -> Iterator[Callable[[int, str], subprocess.Popen[bytes]]]:
    """Starts the leader of an instance; all have ended when the test has."""
    started: list[subprocess.Popen[bytes]] = []

    def start(number: int, script: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", script],
            env={proc.INSTANCE_VARIABLE: f"{PLACE}/{number}"},
            start_new_session=True,
            stdout=subprocess.PIPE,
        )
        started.append(process)
        assert process.stdout is not None
        if script == STUBBORN:
            process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def belongings(number: int, process: subprocess.Popen[bytes]) -> Belongings:
    line = proc.stat(process.pid)
    assert line is not None
    return Belongings(f"{PLACE}/{number}", line.process)


async def test_many_endings_share_each_look(
    executor: ThreadPoolExecutor,
    spawn: Callable[[int, str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ending thirty costs hardly more looks at the table than ending one."""
    looks = []
    find = proc.find

    def counted(wanted: list[Belongings], *, thorough: bool) -> dict[str, set[Process]]:
        looks.append(len(wanted))
        return find(wanted, thorough=thorough)

    monkeypatch.setattr(proc, "find", counted)
    instances = [belongings(number, spawn(number, IDLE)) for number in range(30)]
    endings = Endings(executor, 30.0)
    await asyncio.gather(*(endings.end(each, name="Worker") for each in instances))
    assert not any(proc.is_alive(each.leader) for each in instances)
    assert max(looks) == 30
    assert len(looks) < 30


async def test_the_next_ending_begins_where_the_last_ones_left_off(
    executor: ThreadPoolExecutor, spawn: Callable[[int, str], subprocess.Popen[bytes]]
) -> None:
    """One after another, with nothing under way in between."""
    endings = Endings(executor, 30.0)
    for number in (1, 2):
        instance = belongings(number, spawn(number, IDLE))
        await endings.end(instance, name="Worker")
        assert not proc.is_alive(instance.leader)


async def test_an_instance_of_which_nothing_runs_has_ended(executor: ThreadPoolExecutor) -> None:
    await Endings(executor, 30.0).end(Belongings(f"{PLACE}/none", None), name="Worker 1")


async def test_what_does_not_end_in_time_is_killed(
    executor: ThreadPoolExecutor, spawn: Callable[[int, str], subprocess.Popen[bytes]]
) -> None:
    process = spawn(1, STUBBORN)
    await Endings(executor, 0.05).end(belongings(1, process), name="Worker 1")
    assert process.wait() == -signal.SIGKILL


async def test_what_cannot_be_ended_is_named_with_the_reason(
    executor: ThreadPoolExecutor,
    spawn: Callable[[int, str], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be another user's. Whether the verb was carried out is open: the rest of the instance has ended."""

    def refuse(_process: Process, _number: signal.Signals) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(proc, "send_signal", refuse)
    monkeypatch.setattr(ending, "KILL_PATIENCE_S", 0.05)
    process = spawn(1, IDLE)
    with pytest.raises(FleetError) as raised:
        await Endings(executor, 0.05).end(belongings(1, process), name="Worker 1")
    assert str(raised.value) == (
        f"Worker 1 did not end: process {process.pid} survived SIGKILL (Operation not permitted); end it by hand."
    )
    assert not raised.value.definite


async def test_a_table_that_cannot_be_read_is_an_error_in_bounded_time(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_wanted: object, *, thorough: bool) -> dict[str, set[Process]]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(proc, "find", fail)
    monkeypatch.setattr(ending, "KILL_PATIENCE_S", 0.05)
    with pytest.raises(FleetError, match=r"could not be listed \(Too many open files\)") as raised:
        await Endings(executor, 0.05).end(Belongings(f"{PLACE}/1", None), name="Worker 1")
    assert not raised.value.definite
