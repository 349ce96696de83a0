"""The Ray fleet over a dashboard in process: the conformance kit, what is lost on the way, and what Ray gets wrong."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.fleets.base import Fleet, FleetError, InstanceState, PlaceFree, Resources, ShortageError
from nullworker.fleets.ray import fleet, jobs_api, placeholders
from nullworker.fleets.ray.fleet import RayFleet
from nullworker.testing.fleets import check_fleet, plain_spec
from tests.integration.process_fleets import spec
from tests.kit.fake_ray import FakeNode, FakeRay
from tests.kit.fleet_faults import not_given
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nullworker.fleets.base import Notice
    from nullworker.testing.fleet_kit import OnExit, OnNotice

RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard in process does at once what Ray takes seconds for."""
    for name, seconds in (("LOOK_AFTER_S", 0.0), ("POLL_S", 0.002), ("PLACED_S", 0.05), ("END_S", 1.0)):
        monkeypatch.setattr(fleet, name, seconds)
    monkeypatch.setattr(placeholders, "LINGER_S", 0.06)
    monkeypatch.setattr(jobs_api, "STATUS_S", 0.0)


@dataclass
class Cluster:
    ray: FakeRay
    settings: dict[str, Any]
    exits: list[tuple[int, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    fleets: list[RayFleet] = field(default_factory=list)

    async def open(self, mark: str = "mark", **settings: Any) -> RayFleet:
        opened = await RayFleet.open(
            {**self.settings, **settings}, mark, lambda *exited: self.exits.append(exited), self.notices.append
        )
        self.fleets.append(opened)
        return opened


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with FakeRay(token="right") as ray:
        token = tmp_path / "token"
        token.write_text("right\n")
        settings = {"state_dir": tmp_path / "state", "address": ray.url, "jobs_s": 0.1, "token_file": str(token)}
        made = Cluster(ray, settings)
        yield made
        for each in made.fleets:
            await each.close()


async def states(of: Fleet) -> dict[int, InstanceState]:
    return {each.worker_id: each.state for each in await of.list()}


async def test_it_passes_the_conformance_kit(cluster: Cluster) -> None:
    cluster.ray.nodes["node-b"].resources["CPU"] = 20
    cluster.settings["grace_s"] = 1

    async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
        return await RayFleet.open(cluster.settings, mark, on_exit, on_notice)

    async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
        cluster.ray.crash(worker_id, mark)

    @contextlib.asynccontextmanager
    async def shortage(_fleet: Fleet, _mark: str) -> AsyncIterator[None]:
        for node in cluster.ray.nodes.values():
            node.resources["CPU"] -= 20
        yield
        for node in cluster.ray.nodes.values():
            node.resources["CPU"] += 20

    result = await check_fleet(
        make_fleet,
        crash=crash,
        shortage=shortage,
        faults=cluster.ray.faults(),
        make_spec=plain_spec,
        settings=cluster.settings,
        lag_s=5.0,
        quiet_s=0.15,
    )
    assert not_given(result) == {"ends_soon", "moved"}
    assert [job for job in cluster.ray.jobs.values() if job.status in ("PENDING", "RUNNING")] == []


async def test_a_job_asks_for_what_its_worker_needs_and_brings_its_code(cluster: Cluster) -> None:
    opened = await cluster.open(resources={"tpu": 2}, runtime_env={"env_vars": {"HF_HOME": "/models"}}, grace_s=7)
    cluster.ray.nodes["node-a"].resources["tpu"] = 4
    resources = Resources(gpus=1, cpus=2.5, memory_gb=1.5, labels={"disk": "fast"})
    await opened.create(spec(1, "null", resources=resources))
    (job,) = cluster.ray.of(1)
    body = job.body
    assert body["entrypoint_num_gpus"] == 1
    assert body["entrypoint_num_cpus"] == 2.5
    assert body["entrypoint_memory"] == 1_500_000_000
    assert body["entrypoint_resources"] == {"tpu": 2}
    assert body["entrypoint_label_selector"] == {"disk": "fast"}
    environment = body["runtime_env"]
    assert environment["working_dir"].removeprefix("gcs://") in cluster.ray.packages
    assert any(each.startswith("vastai") for each in environment["pip"])
    variables = environment["env_vars"]
    assert (variables["HF_HOME"], variables["RAY_JOB_STOP_WAIT_TIME_S"]) == ("/models", "7")
    assert "token-1" not in str({**body, "runtime_env": ""}), "the token is where Ray hides it from browsers"
    await opened.create(spec(2, "null", resources=Resources(gpus=0)))
    assert cluster.ray.of(2)[0].body["entrypoint_num_cpus"] == 1, "else Ray would run all workers on the head"
    assert sum(path.startswith("/api/packages") for _, path in cluster.ray.calls) == 2, "looked for, uploaded, once"


async def test_a_lost_answer_makes_no_second_job(cluster: Cluster) -> None:
    opened = await cluster.open()
    cluster.ray.lost[("POST", "/api/jobs/")] = 1
    await opened.create(spec(1))
    assert len(cluster.ray.of(1)) == 1
    assert await states(opened) == {1: RUNNING}


async def test_a_job_that_never_came_is_no_worker_that_ended(cluster: Cluster) -> None:
    """Of a submission without an answer nothing is left, if Ray has no such job: neither an end, nor an instance."""
    opened = await cluster.open()
    await opened.create(spec(1))
    await opened.stop(1)
    cluster.ray.is_silent = True
    for verb in (opened.start(1), opened.create(spec(2)), opened.create(spec(3)), opened.create(spec(3))):
        with pytest.raises(FleetError) as lost:
            await verb
        assert not lost.value.definite
    cluster.ray.is_silent = False
    await opened.create(spec(3))
    await until(lambda: 2 not in opened._records)
    assert await states(opened) == {1: STOPPED, 3: RUNNING}
    assert cluster.exits == []
    await opened.start(1)
    await opened.create(spec(2))
    assert await states(opened) == {1: RUNNING, 2: RUNNING, 3: RUNNING}
    assert len(cluster.ray.of(3)) == 1


async def test_what_was_asked_of_a_cluster_that_is_not_there_is_definite(cluster: Cluster) -> None:
    opened = await cluster.open()
    await cluster.ray.__aexit__()
    with pytest.raises(FleetError, match=r"cannot be reached \(.*\)\.$") as refused:
        await opened.create(spec(1))
    assert refused.value.definite


async def test_a_shortage_is_a_demand_that_ray_sees_until_there_is_a_place(cluster: Cluster) -> None:
    opened = await cluster.open()
    needs = Resources(gpus=4)
    with pytest.raises(
        ShortageError, match=r"no place for worker 1 \(it wants 1 CPU, 4 GPU; in use: 0 of 16 CPU, 0 of"
    ):
        await opened.create(spec(1, resources=needs))
    with pytest.raises(ShortageError, match="no place for worker 2"):
        await opened.create(spec(2, resources=needs))
    assert [job.status for job in cluster.ray.jobs.values()] == ["PENDING"], "one demand of a kind, as backlog says"
    assert await opened.list() == []
    await opened.create(spec(3))
    assert await states(opened) == {3: RUNNING}, "what needs something else is not held up"
    await asyncio.sleep(0.3)
    assert cluster.notices == []
    await opened.close()
    opened = await cluster.open()
    assert await states(opened) == {3: RUNNING}, "a demand is no worker, also after a restart"
    cluster.ray.nodes["node-c"] = FakeNode({"CPU": 4, "GPU": 4})
    await until(lambda: cluster.notices == [PlaceFree()])
    await opened.create(spec(4, resources=needs))
    assert await states(opened) == {3: RUNNING, 4: RUNNING}
    await until(lambda: len(cluster.ray.jobs) == 2, "what stood for the shortage is removed")
    assert cluster.exits == []


async def test_of_many_at_once_those_are_refused_that_have_no_place(cluster: Cluster) -> None:
    """Ray tells how many it has no place for, and not which; what it is installing for waits as well."""
    opened = await cluster.open(cpus_per_worker=4, backlog=50)
    cluster.ray.is_installing = True
    creating = [opened.create(spec(worker_id)) for worker_id in range(1, 8)]
    ended = await asyncio.gather(*creating, return_exceptions=True)
    assert [isinstance(each, ShortageError) for each in ended] == [False] * 4 + [True] * 3
    assert await states(opened) == dict.fromkeys(range(1, 5), RUNNING)
    cluster.ray.nodes["node-c"] = FakeNode({"CPU": 4}, {"slow": "yes"})
    await opened.create(spec(8, resources=Resources(labels={"slow": "yes"})))
    assert cluster.ray.of(8)[0].status == "PENDING", "as long as its packages are being installed"
    assert await states(opened) == dict.fromkeys((1, 2, 3, 4, 8), RUNNING)


async def test_a_demand_that_is_no_more_is_taken_back(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placeholders, "FORGET_AFTER_S", 0.2)
    opened = await cluster.open()
    with pytest.raises(ShortageError):
        await opened.create(spec(1, resources=Resources(gpus=4)))
    await until(lambda: cluster.ray.jobs == {}, "the demand, and what cancelled it, are gone")
    assert sum(call == ("POST", "/api/jobs/") for call in cluster.ray.calls) == 2
    assert not [path for _, path in cluster.ray.calls if "mark-0-" in path and path.endswith("/stop")]
    with pytest.raises(ShortageError):
        await opened.create(spec(1, resources=Resources(gpus=4)))
    await opened.close(destroy=True)
    await asyncio.sleep(0.3)
    cluster.ray.work()
    assert [job.status for job in cluster.ray.jobs.values()] == ["FAILED", "SUCCEEDED"]


async def test_the_end_of_a_node_is_the_end_of_its_workers_alone(cluster: Cluster) -> None:
    opened = await cluster.open()
    for worker_id in (1, 2):
        await opened.create(spec(worker_id, resources=Resources(labels={"disk": "fast"})))
    cluster.ray.nodes["node-a"].labels = {}
    cluster.ray.nodes["node-b"].labels = {"disk": "fast"}
    await opened.create(spec(3, resources=Resources(labels={"disk": "fast"})))
    cluster.ray.kill_node("node-a")
    await until(lambda: len(cluster.exits) == 2)
    assert [worker_id for worker_id, _ in cluster.exits] == [1, 2]
    said = "its node has died (health check failed due to missing too many heartbeats)"
    assert {detail for _, detail in cluster.exits} == {said}
    assert await states(opened) == {1: EXITED, 2: EXITED, 3: RUNNING}
    assert await opened.read_log(1, 100) == b""
    assert (await opened.read_log(3, 100)).endswith(b"null worker\n")


async def test_an_engine_without_its_records_finds_its_workers_by_their_jobs(cluster: Cluster, tmp_path: Path) -> None:
    opened = await cluster.open()
    await opened.create(spec(1))
    await opened.create(spec(2))
    await opened.close()
    again = await cluster.open(state_dir=tmp_path / "fresh")
    listed = {each.worker_id: each for each in await again.list()}
    assert {i: each.state for i, each in listed.items()} == {1: RUNNING, 2: RUNNING}
    assert (listed[1].endpoint, listed[1].workergroup_id) == ("endpoint", 1)
    await again.stop(1)
    await again.start(1)
    assert await states(again) == {1: RUNNING, 2: RUNNING}
    assert len([job for job in cluster.ray.of(1) if job.status == "RUNNING"]) == 1


async def test_a_list_that_lacks_a_job_is_not_believed(cluster: Cluster) -> None:
    opened = await cluster.open()
    await opened.create(spec(1))
    cluster.ray.lies["/api/jobs/"] = "[]"
    await asyncio.sleep(0.3)
    assert await states(opened) == {1: RUNNING}
    assert cluster.exits == []
    cluster.ray.jobs.clear()
    await until(lambda: cluster.exits)
    assert cluster.exits == [(1, "its job is gone from Ray's list (was the cluster restarted?)")]


@pytest.mark.parametrize("lie", ["nonsense", "{}", '[{"submission_id": "x", "status": "MAYBE"}]', "[1, null]"])
async def test_a_place_that_lies_ends_no_worker(cluster: Cluster, lie: str) -> None:
    opened = await cluster.open()
    await opened.create(spec(1))
    cluster.ray.lies["/api/jobs/"] = lie
    await asyncio.sleep(0.15)
    with contextlib.suppress(FleetError):
        assert await states(opened) == {1: RUNNING}
    del cluster.ray.lies["/api/jobs/"]
    await until(lambda: cluster.ray.calls[-1] == ("GET", "/api/jobs/"))
    assert await states(opened) == {1: RUNNING}
    assert cluster.exits == []


async def test_what_ray_cannot_run_is_refused_and_leaves_nothing(cluster: Cluster) -> None:
    opened = await cluster.open()
    cluster.ray.packages.clear()
    opened._package_at = asyncio.get_running_loop().time()
    with pytest.raises(FleetError, match=r"^Ray cannot run worker 1: no package\.$") as refused:
        await opened.create(spec(1))
    assert refused.value.definite
    assert await opened.list() == []


async def test_the_questions_are_few(cluster: Cluster) -> None:
    opened = await cluster.open(jobs_s=30.0)
    cluster.ray.calls.clear()
    for worker_id in range(1, 11):
        await opened.create(spec(worker_id))
    for _ in range(50):
        await opened.list()
    assert ("GET", "/api/jobs/") not in cluster.ray.calls
    assert len(cluster.ray.calls) <= 2 + 10 * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token_file": "/no/such"}, r"token cannot be read from /no/such .*: correct token_file\.$"),
        ({"address": "127.0.0.1:8265"}, r"'127.0.0.1:8265' is no address of Ray's dashboard"),
        ({"address": "http://127.0.0.1:9"}, r"dashboard at http://127.0.0.1:9 cannot be reached \(.*\)\.$"),
        ({"adress": "x"}, r"unknown field `adress`"),
        ({"runtime_env": {"working_dir": "."}}, "name your directory as code instead"),
        ({"code": "/no/such"}, "/no/such, which is code of .fleet.ray., is no directory"),
        ({"backlog": 0}, "wrong .*backlog.*correct .fleet.ray."),
    ],
)
async def test_bad_settings_are_one_sentence(cluster: Cluster, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FleetError, match=message):
        await cluster.open(**settings)


async def test_a_wrong_token_and_another_server_are_told(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong")
    said = r"refuses the token \(Forbidden: Invalid authentication token\): put it into RAY_AUTH_TOKEN or token_file of"
    with pytest.raises(FleetError, match=said):
        await cluster.open(token_file=str(tmp_path / "wrong"))
    cluster.ray.lies["/api/version"] = "<html>welcome"
    with pytest.raises(FleetError, match="answers, but not as Ray's dashboard does"):
        await cluster.open()
    assert cluster.ray.jobs == {}


async def test_a_worker_is_asked_to_end_when_rays_process_for_its_job_dies(tmp_path: Path) -> None:
    """Else it would go on, on a node that Ray has given up."""
    child = (
        "import signal, sys\n"
        "from nullworker.fleets.ray.node_side import die_with_parent\n"
        "die_with_parent()\n"
        "print('here', flush=True)\n"
        "signal.pause()\n"
    )
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", parent, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"here\n"
    process.kill()
    await process.wait()
    assert await asyncio.wait_for(process.stdout.read(), 60) == b"", "its end of the pipe is closed"
