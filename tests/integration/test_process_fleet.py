"""The process fleet, with real processes: what it starts, what it leaves, what it sees, and whom it lets alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest
import uvloop

from nullworker.fleets.base import FleetError, InstanceState
from nullworker.fleets.processes import ProcessFleet, proc
from nullworker.fleets.processes import fleet as looking
from nullworker.fleets.processes.logs import CUT_MARK
from nullworker.testing.fleets import check_fleet
from tests.integration.process_fleets import MARK, PATIENCE_S, Place, alive, kill, make_workers, place_in, spec, states
from tests.kit.fleet_faults import not_given
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nullworker.fleets.base import Fleet
    from nullworker.testing.fleet_kit import OnExit, OnNotice

RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in(tmp_path) as place:
        yield place


# ------------------------------------------------------------------------------------------------------ the rules


def test_it_passes_the_conformance_kit_on_asyncio(tmp_path: Path) -> None:
    asyncio.run(run_kit(tmp_path))


def test_it_passes_the_conformance_kit_on_uvloop(tmp_path: Path) -> None:
    uvloop.run(run_kit(tmp_path))


async def run_kit(tmp_path: Path) -> None:
    place = Place(tmp_path, {"state_dir": tmp_path / "state", "workers_path": [str(make_workers(tmp_path / "root"))]})
    place.settings.update(gpus=16, gpus_per_worker=1)

    async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
        return await ProcessFleet.open(place.settings, mark, on_exit, on_notice)

    async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
        await kill(place.pid(worker_id, mark))

    @contextlib.asynccontextmanager
    async def shortage(fleet: Fleet, _mark: str) -> AsyncIterator[None]:
        assert isinstance(fleet, ProcessFleet)
        taken = fleet._gpus.take(0, 15)
        yield
        fleet._gpus.release(0)
        assert len(taken) == 15

    result = await check_fleet(make_fleet, crash=crash, shortage=shortage, make_spec=spec, settings=place.settings)
    assert not_given(result) == {"lost_answer", "silence", "kept", "unstarted", "ends_soon", "moved"}
    assert place.running() == []


# ------------------------------------------------------------------------------------------------- what it starts


async def test_a_worker_gets_what_it_needs_and_nothing_else(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Identity, ports and the workergroup's variables are in its environment; the engine's secrets are not."""
    monkeypatch.setenv("VAST_API_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    fleet = await place.open(pass_env=["LD_LIBRARY_PATH"])
    env = {"LOG_LEVEL": "info", "CONTAINER_ID": "99", "MASTER_TOKEN": "mine", "NULL_CALLBACK_PRIVATE": "false"}
    await fleet.create(spec(7, "open_book", consumer="python consumer.py", env=env))
    about = await place.about(7)
    seen = about["env"]
    ports = place.record(7)["ports"]
    directory = str(place.directory(7))
    expected = {
        "CONTAINER_ID": "7",
        "MASTER_TOKEN": "token-7",
        "REPORT_ADDR": "http://127.0.0.1:9",
        "WORKER_PORT": str(ports["worker"]),
        f"VAST_TCP_PORT_{ports['worker']}": str(ports["worker"]),
        "WORKER_HTTP_PORT": str(ports["http"]),
        "NULL_CONTROL_PORT": str(ports["control"]),
        "PUBLIC_IPADDR": "127.0.0.1",
        "WORKER_HOST": "127.0.0.1",
        "USE_SSL": "false",
        "NULL_CALLBACK_PRIVATE": "false",
        "NULL_CONSUMER": "python consumer.py",
        "LOG_LEVEL": "info",
        "LC_TIME": "C.UTF-8",
        "LD_LIBRARY_PATH": "/somewhere",
        "BACKEND": "open_book",
        "NULLWORKER_INSTANCE": directory,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "secret" not in json.dumps(seen)
    assert len(set(ports.values())) == 3
    assert about["cwd"] == directory
    assert about["sid"] == about["pid"] == place.pid(7)
    (instance,) = await fleet.list()
    assert instance.address == f"127.0.0.1:{ports['worker']}"


async def test_its_record_and_its_log_are_for_its_owner_alone(place: Place) -> None:
    """The record holds the worker's token."""
    fleet = await place.open()
    await fleet.create(spec(1))
    for name in ("instance.json", "worker.log"):
        assert stat.S_IMODE((place.directory(1) / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(place.directory(1).stat().st_mode) == 0o700


async def test_a_classic_backend_runs_under_the_classic_runtime(place: Place) -> None:
    """A folder with a backend.py and no worker.py is given to nullworker.classic."""
    fleet = await place.open(python=str(fake_python(place.path)))
    await fleet.create(spec(1, "classical"))
    log = place.directory(1) / "worker.log"
    await until(lambda: log.exists() and "-m nullworker.classic classical" in log.read_text())


def fake_python(path: Path) -> Path:
    """An interpreter that prints what it was called with."""
    script = path / "python"
    script.write_text('#!/bin/sh\necho "$@"\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("backend", ["absent", "../idle", "", "a/b"])
async def test_a_backend_that_is_not_there_is_named_and_nothing_is_made(place: Place, backend: str) -> None:
    fleet = await place.open()
    with pytest.raises(FleetError, match=f"backend.*{backend}|{backend}.*backend") as raised:
        await fleet.create(spec(1, backend))
    assert raised.value.definite
    assert await fleet.list() == []
    assert not place.directory(1).exists()


async def test_an_interpreter_that_is_gone_is_named_and_nothing_is_made(place: Place) -> None:
    python = fake_python(place.path)
    fleet = await place.open(python=str(python))
    python.unlink()
    with pytest.raises(FleetError, match=str(python)) as raised:
        await fleet.create(spec(1))
    assert raised.value.definite
    assert await fleet.list() == []
    assert list(place.directory(1).parent.iterdir()) == []


async def test_workers_get_ports_of_their_own(place: Place) -> None:
    fleet = await place.open()
    await asyncio.gather(*(fleet.create(spec(worker_id)) for worker_id in range(1, 11)))
    ports = [port for worker_id in range(1, 11) for port in place.record(worker_id)["ports"].values()]
    assert len(set(ports)) == 30


async def test_a_stopped_worker_comes_back_on_its_ports(place: Place) -> None:
    """Its directory stays, too."""
    fleet = await place.open()
    await fleet.create(spec(1, "server"))
    ready = place.directory(1) / "ready"
    await until(ready.exists)
    before = place.record(1)["ports"]
    socket.create_connection(("127.0.0.1", before["worker"])).close()
    await fleet.stop(1)
    ready.rename(ready.with_name("was_ready"))
    await fleet.start(1)
    await until(ready.exists)
    assert place.record(1)["ports"] == before
    assert ready.with_name("was_ready").exists()


async def test_a_stopped_worker_whose_port_was_taken_comes_back_on_others(place: Place) -> None:
    fleet = await place.open()
    await fleet.create(spec(1, "server"))
    before = place.record(1)["ports"]
    await fleet.stop(1)
    with socket.create_server(("127.0.0.1", before["control"])):
        await fleet.start(1)
        ports = place.record(1)["ports"]
    assert not set(ports.values()) & set(before.values())
    await until((place.directory(1) / "ready").exists)


async def test_a_worker_whose_port_was_taken_before_it_listened_is_an_exit_like_any(place: Place) -> None:
    fleet = await place.open()
    await fleet.create(spec(1))
    await fleet.stop(1)
    record = place.record(1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        await fleet.close()
        record["ports"]["worker"] = taken.getsockname()[1]
        record["backend"] = "server"
        (place.directory(1) / "instance.json").write_text(json.dumps(record))
        fleet = await place.open()
        fleet._ports.are_free = lambda ports: True  # type: ignore[method-assign] # the race: free when it was looked at
        await fleet.start(1)
        await until(lambda: place.exits)
    ((worker_id, detail),) = place.exits
    assert worker_id == 1
    assert detail.startswith("exit code 1; its log ends: OSError")
    assert "Address already in use" in detail


async def test_a_worker_that_cannot_be_noted_is_not_left_running(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk fills up between starting it and writing its number down."""
    fleet = await place.open()

    def full(_record: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fleet._directory, "save", full)
        with pytest.raises(FleetError, match="the disk is full: free some space") as raised:
            await fleet.create(spec(1))
    assert raised.value.definite
    assert place.running() == []
    assert await fleet.list() == []
    await fleet.create(spec(1))
    assert await states(fleet) == {1: RUNNING}


async def test_a_stopped_worker_that_cannot_be_noted_stays_stopped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = await place.open()
    await fleet.create(spec(1))
    await fleet.stop(1)

    def full(_record: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fleet._directory, "save", full)
        with pytest.raises(FleetError, match="the disk is full"):
            await fleet.start(1)
    assert place.running() == []
    assert await states(fleet) == {1: STOPPED}
    await fleet.start(1)
    assert await states(fleet) == {1: RUNNING}


# ------------------------------------------------------------------------------------------------- how it ends


async def test_stop_ends_everything_that_a_worker_started(place: Place) -> None:
    """A child in another process group, one in another session, and an orphan in another session."""
    fleet = await place.open()
    await fleet.create(spec(1, "family"))
    await until((place.directory(1) / "pids").exists)
    pids = [int(pid) for pid in (place.directory(1) / "pids").read_text().split()]
    assert len(pids) == 4
    assert all(map(alive, pids))
    await fleet.stop(1)
    assert not any(map(alive, pids))
    assert await states(fleet) == {1: STOPPED}
    assert place.exits == []


async def test_a_process_that_sheds_its_environment_when_asked_to_end_is_ended_all_the_same(place: Place) -> None:
    """Once found, it is known by its number and start, whatever it becomes."""
    fleet = await place.open(grace_s=0.5)
    await fleet.create(spec(1, "shedder"))
    await until((place.directory(1) / "pids").exists)
    pid = int((place.directory(1) / "pids").read_text())
    destroying = asyncio.create_task(fleet.destroy(1))
    await until((place.directory(1) / "shed").exists)
    assert alive(pid)
    await destroying
    assert not alive(pid)


async def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace(place: Place) -> None:
    fleet = await place.open(grace_s=0.3)
    await fleet.create(spec(1, "stubborn"))
    await until((place.directory(1) / "ready").exists)
    pid, began_at = place.pid(1), time.monotonic()
    await fleet.destroy(1)
    assert time.monotonic() - began_at >= 0.3
    assert not alive(pid)
    assert await fleet.list() == []


async def test_closing_again_with_less_grace_hurries_the_first(place: Place) -> None:
    """As a second Ctrl-C does."""
    fleet = await place.open(grace_s=3600)
    await fleet.create(spec(1, "stubborn"))
    await until((place.directory(1) / "ready").exists)
    pid = place.pid(1)
    first = asyncio.create_task(fleet.close(destroy=True))
    await asyncio.sleep(0.05)
    assert alive(pid)
    assert not first.done()
    await asyncio.wait_for(fleet.close(destroy=True, grace_s=0), PATIENCE_S)
    await first
    assert not alive(pid)


async def test_a_destroyed_worker_leaves_its_log_and_nothing_else(place: Place) -> None:
    fleet = await place.open()
    await fleet.create(spec(1, "brief", endpoint="my/endpoint"))
    await until(lambda: place.exits)
    await fleet.destroy(1)
    root = place.path / "state"
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert files == ["logs/my%2Fendpoint/worker-1.log"]
    assert "first words" in (root / files[0]).read_text()


async def test_only_so_many_logs_are_kept(place: Place) -> None:
    """The oldest go first."""
    fleet = await place.open(logs_kept=2)
    for worker_id in (1, 2, 3):
        await fleet.create(spec(worker_id))
        await fleet.destroy(worker_id)
    kept = sorted(path.name for path in (place.path / "state/logs/endpoint").iterdir())
    assert kept == ["worker-2.log", "worker-3.log"]


async def test_no_zombie_is_left(place: Place) -> None:
    """Whether a worker ended by itself, was stopped or was destroyed."""
    fleet = await place.open()
    for worker_id in (1, 2, 3):
        await fleet.create(spec(worker_id))
    pids = [place.pid(worker_id) for worker_id in (1, 2, 3)]
    await kill(pids[0])
    await until(lambda: place.exits)
    await fleet.stop(2)
    await fleet.destroy(3)
    assert [proc.stat(pid) for pid in pids] == [None, None, None]


# ------------------------------------------------------------------------------------------------- what it sees


async def test_an_exit_is_announced_with_its_code_and_the_last_line_of_the_log(place: Place) -> None:
    """The worker's token is not repeated."""
    fleet = await place.open()
    await fleet.create(spec(1, "brief"))
    await until(lambda: place.exits)
    assert place.exits == [(1, "exit code 3; its log ends: last words of ***")]
    (instance,) = await fleet.list()
    assert (instance.state, instance.detail) == (EXITED, place.exits[0][1])


async def test_a_later_runs_notice_does_not_quote_an_earlier_ones_log(place: Place) -> None:
    fleet = await place.open()
    await fleet.create(spec(1, "once"))
    await until(lambda: place.exits)
    await fleet.start(1)
    await until(lambda: len(place.exits) == 2)
    assert place.exits == [(1, "exit code 1; its log ends: the first time"), (1, "exit code 2; it logged nothing")]


async def test_a_kill_is_announced_with_its_signal_by_the_kernels_word(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at the next look at anything."""
    monkeypatch.setattr(looking, "LOG_LOOK_INTERVAL_S", 3600)
    fleet = await place.open()
    await fleet.create(spec(1))
    os.kill(place.pid(1), signal.SIGKILL)
    await until(lambda: place.exits)
    assert place.exits == [(1, "killed by signal 9 (SIGKILL); it logged nothing")]


async def test_a_callback_that_fails_does_not_stop_the_next(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """An error in on_exit is logged, and the fleet goes on."""
    seen = []

    def on_exit(worker_id: int, _detail: str) -> None:
        seen.append(worker_id)
        raise RuntimeError("no")

    fleet = await ProcessFleet.open(place.settings, MARK, on_exit)
    place.fleets.append(fleet)
    for worker_id in (1, 2):
        await fleet.create(spec(worker_id))
        await kill(place.pid(worker_id))
        await until(lambda: worker_id in seen)  # noqa: B023 - awaited in the loop
    assert seen == [1, 2]
    assert "The callback for the end of worker 1 failed." in caplog.text


async def test_what_an_exited_worker_left_running_is_ended_with_it(place: Place) -> None:
    """Its consumer goes on until the engine destroys the instance, and no longer."""
    fleet = await place.open()
    await fleet.create(spec(1, "family"))
    await until((place.directory(1) / "pids").exists)
    leader, *others = [int(pid) for pid in (place.directory(1) / "pids").read_text().split()]
    os.kill(leader, signal.SIGKILL)
    await until(lambda: place.exits)
    assert all(map(alive, others))
    line = proc.stat(leader)
    assert line is not None, "its number means their session, and stays taken as long as they are there"
    assert not line.alive
    assert await states(fleet) == {1: EXITED}
    await fleet.destroy(1)
    assert not any(map(alive, others))
    assert proc.stat(leader) is None


async def test_what_an_exited_worker_left_running_is_ended_before_it_starts_again(place: Place) -> None:
    fleet = await place.open()
    await fleet.create(spec(1, "family"))
    pids = place.directory(1) / "pids"
    await until(pids.exists)
    leader, *others = [int(pid) for pid in pids.read_text().split()]
    os.kill(leader, signal.SIGKILL)
    await until(lambda: place.exits)
    pids.unlink()
    await fleet.start(1)
    await until(pids.exists)
    assert not any(map(alive, others))
    assert await states(fleet) == {1: RUNNING}


async def test_a_chatty_worker_does_not_fill_the_disk(place: Place) -> None:
    """Its log is cut once a second, and what it takes on disk stays near what is allowed."""
    fleet = await place.open(log_bytes_max=100_000)
    await fleet.create(spec(1, "chatty"))
    log = place.directory(1) / "worker.log"
    older = log.with_name("worker.log.1")
    await until(older.exists)
    first = older.stat().st_mtime_ns
    await until(lambda: older.stat().st_mtime_ns != first)
    await fleet.stop(1)
    assert older.stat().st_size <= 50_000
    assert log.stat().st_size < 200_000_000, "what it writes in a second"
    await fleet.destroy(1)
    mark, _, rest = (place.path / "state/logs/endpoint/worker-1.log").read_text().partition("\n")
    assert mark.startswith(f"{CUT_MARK} ")
    assert set(rest) == {"x", "\n"}
