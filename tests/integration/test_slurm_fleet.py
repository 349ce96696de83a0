"""Workers as jobs of a real Slurm cluster of two nodes on this machine."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil
import pytest

from nullworker.fleets.base import EndsSoon, FleetError, InstanceState, PlaceFree, Resources, ShortageError
from nullworker.fleets.slurm import SlurmFleet, squeue
from nullworker.testing.fleets import check_fleet
from tests.integration.process_fleets import kill
from tests.integration.slurm_cluster import MARK, Cluster, cluster_in, needs_slurm, spec
from tests.kit.fleet_faults import not_given
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nullworker.fleets.base import Fleet
    from nullworker.testing.fleet_kit import OnExit, OnNotice

pytestmark = needs_slurm
RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    async with cluster_in(tmp_path, monkeypatch) as cluster:
        yield cluster


@pytest.mark.long
async def test_it_passes_the_conformance_kit(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nullworker.fleets.slurm.fleet.END_S", 3.0)

    async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
        return await SlurmFleet.open(cluster.settings, mark, on_exit, on_notice)

    async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
        await until(lambda: cluster.running(worker_id, mark))
        for pid in cluster.running(worker_id, mark):
            await kill(pid)

    @contextlib.asynccontextmanager
    async def shortage(fleet: Fleet, _mark: str) -> AsyncIterator[None]:
        assert isinstance(fleet, SlurmFleet)
        waiting = fleet._waiting
        fleet._waiting = lambda: dict.fromkeys(range(50), "Resources")  # type: ignore[method-assign]
        yield
        fleet._waiting = waiting  # type: ignore[method-assign]

    result = await check_fleet(
        make_fleet,
        crash=crash,
        shortage=shortage,
        faults=cluster.faults(),
        make_spec=spec,
        settings=cluster.settings,
        quiet_s=1.2,
        lag_s=10.0,
    )
    assert not_given(result) == {"moved"}
    assert cluster.running() == []


async def test_a_job_that_waits_is_a_shortage_with_slurm_s_reason(cluster: Cluster) -> None:
    """One waits in the queue and no more; when it has begun, there may be place for another."""
    cluster.scontrol("update", "NodeName=ALL", "State=DRAIN", "Reason=test")
    fleet = await cluster.open(backlog=1)
    await fleet.create(spec(1))
    await until(lambda: fleet._queue_view.latest and fleet._waiting() != {1: "just submitted"})
    with pytest.raises(ShortageError, match=r"worker 1 waits in Slurm's queue \(.*(Resources|NotAvail|down).*\)"):
        await fleet.create(spec(2))
    assert [each.worker_id for each in await fleet.list()] == [1]
    assert cluster.notices == []
    cluster.scontrol("update", "NodeName=ALL", "State=RESUME")
    await until(lambda: cluster.notices == [PlaceFree()])
    await fleet.create(spec(2))
    await until(lambda: cluster.running(2))
    listed = {each.worker_id: each for each in await fleet.list()}
    assert listed[1].state is RUNNING
    assert listed[1].address.startswith("127.0.0.1:")
    assert (listed[1].endpoint, listed[1].workergroup_id) == ("endpoint", 1)
    await fleet.create(spec(3, "brief"))
    await until(lambda: cluster.exits)
    assert cluster.exits[0][0] == 3
    assert (await fleet.read_log(3, 1000)).startswith(b"first words")
    for pid in processes_of(cluster, 1):
        await kill(pid)
    await until(lambda: len(cluster.exits) == 2, "a job that could write nothing down is seen in the queue")
    assert cluster.exits[1][0] == 1
    assert "ended as FAILED" in cluster.exits[1][1]


def processes_of(cluster: Cluster, worker_id: int) -> list[int]:
    """The worker of a job, and before it the job's own process, which would write down that it ended."""
    (worker,) = cluster.running(worker_id)
    parent = psutil.Process(worker).ppid()
    return [parent, worker]


async def test_what_slurm_is_asked_and_what_it_says(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def counted(words: list[str], text: str = "") -> str:
        asked.append(words[0])
        return await real(words, text)

    real = squeue.command
    monkeypatch.setattr(squeue, "command", counted)
    monkeypatch.setattr("nullworker.fleets.slurm.fleet.command", counted)
    with pytest.raises(FleetError, match=r"Slurm refused sbatch: .*nope.* correct .fleet.slurm..$"):
        await cluster.open(partition="nope")
    asked.clear()
    fleet = await cluster.open(queue_s=30.0, time_limit_min=1, notice_s=120.0)
    for worker_id in range(1, 6):
        await fleet.create(spec(worker_id))
    for _ in range(20):
        await fleet.list()
    await until(lambda: cluster.running(5))
    assert asked == ["sbatch", "squeue", *["sbatch"] * 5], "one trial, one question for all, and one for each creation"
    with pytest.raises(FleetError, match=r"Slurm refused sbatch: .*gres") as refused:
        await fleet.create(spec(6, resources=Resources(gpus=1)))
    assert refused.value.definite
    with pytest.raises(FleetError, match="the label 'disk' means nothing to Slurm"):
        await fleet.create(spec(6, resources=Resources(labels={"disk": "fast"})))
    assert 6 not in fleet._records
    await fleet.close()
    again = await cluster.open(time_limit_min=1, notice_s=120.0)
    assert len(await again.list()) == 5
    await until(lambda: len(cluster.notices) == 5)
    notice = cluster.notices[0]
    assert isinstance(notice, EndsSoon)
    assert 0 < notice.in_s <= 60
    assert notice.reason.startswith("the time limit of Slurm's job ")
    stray = ["sbatch", "--job-name=nw-77", f"--comment=nullworker-{MARK}", "--output=/dev/null", "--wrap", "sleep 600"]
    await squeue.command(stray)
    await until(lambda: 77 in again._strays(), "a job with the mark that no record is about")
    assert [each.worker_id for each in await again.list()] == [1, 2, 3, 4, 5, 77]
    await again.destroy(77)
    assert [each.worker_id for each in await again.list()] == [1, 2, 3, 4, 5]
    await again.close(destroy=True)
    assert cluster.running() == []
    assert list((cluster.path / "engine/fleets/slurm" / MARK).iterdir()) == []


async def test_a_job_whose_submission_had_no_answer_is_found_and_none_is_submitted_twice(cluster: Cluster) -> None:
    fleet = await cluster.open(backlog=2)
    faults = cluster.faults()
    assert faults.lost_answer is not None
    assert faults.silence is not None
    await fleet.create(spec(1))
    await fleet.stop(1)
    async with faults.lost_answer(fleet, MARK):
        with pytest.raises(FleetError, match=r"Slurm has not answered sbatch: .*timed out") as lost:
            await fleet.start(1)
    assert not lost.value.definite
    await fleet.start(1)
    assert [name for _, name in cluster.jobs()] == ["nw-1"], "the job that was submitted is the one"
    await fleet.stop(1)
    assert cluster.jobs() == []
    async with faults.silence(fleet, MARK):
        for verb in (fleet.start(1), fleet.create(spec(2))):
            with pytest.raises(FleetError) as lost:
                await verb
            assert not lost.value.definite
    assert [each.state for each in await fleet.list()] == [STOPPED], "what never came is no worker"
    await fleet.close()
    again = await cluster.open(backlog=2)
    await again.start(1)
    await again.create(spec(2))
    assert sorted(name for _, name in cluster.jobs()) == ["nw-1", "nw-2"]
    late = ["sbatch", "--job-name=nw-2", f"--comment=nullworker-{MARK}", "--output=/dev/null", "--wrap", "sleep 600"]
    await squeue.command(late)
    await until(lambda: len(cluster.jobs()) == 2, "one that arrives after all is a job too many")
    assert {each.worker_id: each.state for each in await again.list()} == {1: RUNNING, 2: RUNNING}
    assert cluster.exits == []


async def test_the_end_of_a_node_is_the_end_of_its_workers_alone(cluster: Cluster) -> None:
    fleet = await cluster.open()
    for worker_id in (1, 2):
        await fleet.create(spec(worker_id, resources=Resources(cpus=9)))  # more than half a node
    await until(lambda: cluster.running(1) and cluster.running(2))
    (job_id,) = [job for job, name in cluster.jobs() if name == "nw-1"]
    words = dict(word.split("=", 1) for word in cluster.scontrol("show", "job", job_id).split() if "=" in word)
    cluster.daemons[words["BatchHost"]].kill()
    (worker,) = cluster.running(1)
    chain = psutil.Process(worker).parents()
    above = [each for each in chain if each.name() == "slurmstepd"] + [
        psutil.Process(pid) for pid in processes_of(cluster, 1)
    ]
    for each in above:  # with the power of the node goes all that ran on it, which writes nothing down
        each.kill()
    cluster.scontrol("update", f"NodeName={words['BatchHost']}", "State=DOWN", "Reason=test")
    await until(lambda: cluster.exits)
    assert cluster.exits[0][0] == 1
    assert "NODE_FAIL" in cluster.exits[0][1]
    assert {each.worker_id: each.state for each in await fleet.list()} == {1: EXITED, 2: RUNNING}
    await fleet.destroy(1)
    await fleet.destroy(2)
    assert len(cluster.exits) == 1
