"""A real Null PyWorker on the process fleet: it becomes ready, runs its consumer, and leaves nothing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration import null_worker_kit as kit
from tests.integration.process_fleets import Place, alive, kill, spec
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nullworker.fleets.base import InstanceSpec

ID = kit.WORKER_ID
#: Writes down which processes it consists of, ignores SIGTERM, and stays.
CONSUMER = """#!/bin/sh
trap '' TERM
sleep 3600 &
echo $$ $! "$PWD" > started.new
mv started.new started
wait
while :; do sleep 1; done
"""


@pytest.fixture
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path, {"state_dir": tmp_path / "state", "consumer_dir": tmp_path / "jobs"})
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "consumer.sh").write_text(CONSUMER)
    (jobs / "consumer.sh").chmod(0o755)
    try:
        yield place
    finally:
        await place.clear()


async def hold(place: Place, engine: kit.StubEngine) -> tuple[list[int], str]:
    """Reserves a worker that is ready; returns the processes of its consumer, and where that runs."""
    started = place.path / "jobs" / "started"
    started.unlink(missing_ok=True)
    ready = await engine.wait_for(lambda report: report.ready)
    auth_data = engine.auth_data(ready.body["url"])
    body = {"auth_data": auth_data, "session_id": None, "payload": {"lifetime": 600}}
    answer = await kit.post(f"{ready.body['url']}/session/create", body)
    assert answer.status == 201, answer
    await until(started.exists)
    *pids, where = started.read_text().split()
    return [int(pid) for pid in pids], where


def null(engine: kit.StubEngine) -> InstanceSpec:
    """The worker that the stub's grants are for."""
    return spec(
        ID, "null", report_addr=engine.url, worker_token=engine.token, consumer="./consumer.sh", endpoint=kit.ENDPOINT
    )


async def test_its_consumer_starts_where_its_engine_did_and_all_ends_with_it(
    place: Place, engine: kit.StubEngine
) -> None:
    """A consumer that ignores SIGTERM, and what that has started, are gone when destroy returns."""
    fleet = await place.open(grace_s=0.5)
    await fleet.create(null(engine))
    pids, where = await hold(place, engine)
    assert where == str(place.path / "jobs")
    assert all(map(alive, pids))
    await fleet.destroy(ID)
    assert not any(map(alive, pids))
    assert place.running() == []
    assert place.exits == []


async def test_stopped_and_started_it_is_ready_again_under_the_same_address(
    place: Place, engine: kit.StubEngine
) -> None:
    """With the speed that it has measured: the framework's note is in its directory."""
    fleet = await place.open()
    await fleet.create(null(engine))
    first = await engine.wait_for(lambda report: report.ready)
    await fleet.stop(ID)
    assert place.running() == []
    count = len(engine.reports)
    await fleet.start(ID)
    second = await engine.wait_for(lambda report: report.ready, after=count)
    assert second.body["url"] == first.body["url"]
    (instance,) = await fleet.list()
    assert first.body["url"] == f"http://{instance.address}"


async def test_a_killed_worker_is_announced_and_its_consumer_does_not_outlive_its_instance(
    place: Place, engine: kit.StubEngine
) -> None:
    fleet = await place.open(grace_s=0.5)
    await fleet.create(null(engine))
    pids, _ = await hold(place, engine)
    await kill(place.pid(ID))
    await until(lambda: place.exits)
    ((worker_id, detail),) = place.exits
    assert worker_id == ID
    assert detail.startswith("killed by signal 9 (SIGKILL)")
    await fleet.destroy(ID)
    assert not any(map(alive, pids))


async def test_a_consumer_that_is_not_there_is_the_workers_own_last_word(place: Place, engine: kit.StubEngine) -> None:
    """It is in the announcement, so that a waiting client can be told."""
    shutil.rmtree(place.path / "jobs")
    (place.path / "jobs").mkdir()
    fleet = await place.open()
    await fleet.create(null(engine))
    await until(lambda: place.exits)
    assert "The consumer cannot be started: there is no program" in place.exits[0][1]
    assert "exit code 1" in place.exits[0][1]
