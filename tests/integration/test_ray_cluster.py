"""Workers as jobs of a real Ray cluster of a head and two nodes on this machine."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import FleetError, InstanceState, PlaceFree, Resources, ShortageError
from nullworker.fleets.ray.fleet import RayFleet
from nullworker.testing.fleets import check_fleet
from tests.integration.process_fleets import make_workers, spec
from tests.integration.ray_cluster import needs_ray, ray_cluster
from tests.kit.fleet_faults import not_given
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nullworker.fleets.base import Fleet, Notice
    from nullworker.testing.fleet_kit import OnExit, OnNotice

pytestmark = [needs_ray, pytest.mark.long, pytest.mark.timeout(1800)]
RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED
#: A job of somebody else's, which takes all CPUs of a node.
FILLER = {"entrypoint": "exec sleep 600", "entrypoint_num_cpus": 8}


async def test_it_passes_the_conformance_kit(tmp_path: Path) -> None:
    async with ray_cluster(tmp_path / "state") as cluster:
        cluster.settings.update(workers_path=str(make_workers(tmp_path / "root")), cpus_per_worker=0.5)
        fleets: list[RayFleet] = []

        async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
            fleets.append(await RayFleet.open(cluster.settings, mark, on_exit))
            return fleets[-1]

        async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
            part = f"nw-{mark}-{worker_id}-"
            await until(lambda: cluster.workers(part))
            for process in cluster.workers(part):
                process.kill()

        @contextlib.asynccontextmanager
        async def shortage(fleet: Fleet, _mark: str) -> AsyncIterator[None]:
            assert isinstance(fleet, RayFleet)
            for name, cpus in (("filler-1", 8), ("filler-2", 7.5)):
                body = {**FILLER, "submission_id": name, "entrypoint_num_cpus": cpus}
                assert await cluster.api("POST", "/api/jobs/", body)
                await cluster.runs(name)
            yield
            for name in ("filler-1", "filler-2"):
                await cluster.api("POST", f"/api/jobs/{name}/stop")
            await until(lambda: not any(left.kind for left in fleet._placeholders._jobs.values()))

        result = await check_fleet(
            make_fleet,
            crash=crash,
            shortage=shortage,
            make_spec=spec,
            settings=cluster.settings,
            quiet_s=2.0,
            lag_s=20.0,
            patience_s=120.0,
        )
        assert not_given(result) == {"lost_answer", "silence", "kept", "unstarted", "ends_soon", "moved"}
        await until(lambda: cluster.workers() == [])


async def test_what_ray_shows_of_a_shortage_and_of_a_crash(tmp_path: Path) -> None:
    exits: list[tuple[int, str]] = []
    notices: list[Notice] = []
    async with ray_cluster(tmp_path / "state") as cluster:
        cluster.settings.update(workers_path=str(make_workers(tmp_path / "root")))

        async def open_it(**settings: object) -> RayFleet:
            table = {**cluster.settings, **settings}
            return await RayFleet.open(table, "mark", lambda *exited: exits.append(exited), notices.append)

        (tmp_path / "wrong").write_text("another-token-of-many-letters")
        with pytest.raises(FleetError, match="refuses the token"):
            await open_it(token_file=str(tmp_path / "wrong"))
        fleet = await open_it()
        await fleet.create(spec(1, resources=Resources(gpus=1, labels={"disk": "fast"})))
        await until(lambda: ["MASTER_TOKEN" in each.environ() for each in cluster.workers("nw-mark-1-")] == [True])
        (worker,) = cluster.workers("nw-mark-1-")
        assert worker.environ()["CUDA_VISIBLE_DEVICES"] in ("0", "1")
        assert worker.environ()["MASTER_TOKEN"] == "token-1"
        assert not [name for name in worker.environ() if "RAY_INSTANCE" in name or "JOB_CONFIG" in name]
        with pytest.raises(ShortageError, match=r"it wants 1 CPU, 8 GPU; in use: .* of 16 CPU, [01] of 2 GPU\)\.$"):
            await fleet.create(spec(2, resources=Resources(gpus=8)))
        status = await fleet._api.cluster_status()
        assert "'GPU': 8.0" in status.partition("Pending Demands")[2], "which is what an autoscaler goes by"
        assert [each.worker_id for each in await fleet.list()] == [1]
        await fleet.create(spec(3, "brief"))
        await until(lambda: exits)
        assert exits[0][0] == 3
        assert exits[0][1].startswith("exit code 3; its log ends: ")
        assert "token-3" not in exits[0][1]
        assert b"first words" in await fleet.read_log(3, 4000)
        cluster.start_node("127.0.0.5", "--num-gpus", "8")
        await until(lambda: notices == [PlaceFree()], "a node came, as an autoscaler would have brought it")
        await fleet.create(spec(4, resources=Resources(gpus=8)))
        await fleet.destroy(4)
        with pytest.raises(ShortageError):
            await fleet.create(spec(5, resources=Resources(gpus=9)))
        await fleet.close(destroy=True)
        assert cluster.workers() == []
        ends_at = asyncio.get_running_loop().time() + 60
        while "'GPU': 9.0" in str(await cluster.api("GET", "/api/cluster_status?format=1")):
            assert asyncio.get_running_loop().time() < ends_at, "the demand was not taken back"
            await asyncio.sleep(0.5)
        fresh = await open_it(state_dir=tmp_path / "fresh")
        assert await fresh.list() == []
        await fresh.close()
