"""An engine with null workers as jobs of a real Ray cluster, and the unmodified client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.core import explain
from tests.integration.engine.kit import config, endpoint_of, quick, running
from tests.integration.ray_cluster import NODE, needs_ray, ray_cluster
from tests.integration.ssh_hosts import behind_a_link, ip
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.engine.config import EngineConfig
    from tests.integration.engine.kit import Running
    from tests.integration.ray_cluster import RayCluster

pytestmark = [needs_ray, pytest.mark.long, pytest.mark.timeout(1800)]
#: How often a node is lost.
LOSSES = int(os.environ.get("NULLWORKER_LOSSES", "10"))
HANG_S = 120.0


def settings_of(cluster: RayCluster, state: Path, **parameters: Any) -> EngineConfig:
    """One worker of the endpoint takes more than half a node: there is one on each."""
    table = {name: value for name, value in cluster.settings.items() if name != "state_dir"}
    settings = replace(config(state, quick(**parameters), fleet="ray"), port=free_port())
    return replace(settings, fleets={"ray": {**table, "cpus_per_worker": 5}})


def node_of(cluster: RayCluster, engine: Running, session: Any) -> str:
    """The address of the node that holds what a client reserved."""
    core = engine.server.driver.engine
    (worker,) = [each for each in core.state.workers.values() if each.url == session.url]
    (process,) = cluster.workers(f"-{worker.worker_id}-")
    return process.environ()[NODE]


async def test_the_loss_of_a_node_ends_what_was_held_there_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with ray_cluster(tmp_path / "unused") as cluster:
        settings = settings_of(cluster, tmp_path / "engine", max_workers=2, inactivity_timeout=600.0)
        async with running(settings) as engine, endpoint_of(engine) as endpoint:
            sessions = await asyncio.gather(*(endpoint.session(cost=100, lifetime=3600) for _ in range(2)))
            by_node = {node_of(cluster, engine, each): each for each in sessions}
            assert sorted(by_node) == ["127.0.0.3", "127.0.0.4"]
            core = engine.server.driver.engine
            for loss in range(LOSSES):
                lost = ("127.0.0.3", "127.0.0.4")[loss % 2]
                (other,) = set(by_node) - {lost}
                (worker_id,) = [i for i, each in core.state.workers.items() if each.url == by_node[lost].url]
                cluster.kill(lost)
                await until(lambda: worker_id not in core.state.workers, hang_s=HANG_S)  # noqa: B023
                with pytest.raises(Exception, match="Cannot connect"):  # as the client has it
                    await by_node[lost].is_open()
                ends = [each for each in caplog.messages if each.startswith("its worker failed: its node has died")]
                assert len(ends) == loss + 1, "one reservation ended, and it was said why"
                assert await by_node[other].is_open(), f"loss {loss}: what is held elsewhere goes on"
                assert node_of(cluster, engine, by_node[other]) == other
                cluster.start_node(lost)
                by_node[lost] = await asyncio.wait_for(endpoint.session(cost=100, lifetime=3600), HANG_S)
                assert node_of(cluster, engine, by_node[lost]) == lost
            for each in by_node.values():
                await each.close()
        assert cluster.workers() == []


async def test_a_shortage_is_told_to_who_waits_and_ends_with_a_node_and_a_restart_loses_nothing(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack, ray_cluster(tmp_path / "unused") as cluster:
        settings = settings_of(cluster, tmp_path / "engine", max_workers=3, inactivity_timeout=600.0)
        async with running(settings, destroy=False) as engine:
            endpoint = await stack.enter_async_context(endpoint_of(engine))
            sessions = [await endpoint.session(cost=100, lifetime=3600) for _ in range(2)]
            held = sorted(each.pid for each in cluster.workers())
        async with running(settings) as engine:
            core = engine.server.driver.engine
            await engine.server.driver.list_once("ray")
            assert all([await each.is_open() for each in sessions])
            assert sorted(each.pid for each in cluster.workers()) == held, "the same processes"
            asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=3600))
            await until(lambda: len(core.state.reservations) == 3)
            waiter = max(core.state.reservations)
            await until(lambda: "Ray has no place for worker" in explain.why_waiting(core, waiter), hang_s=HANG_S)
            why = explain.why_waiting(core, waiter)
            assert "the fleet ray has had no place since 20" in why
            assert "it wants 5 CPU; in use: 10 of 16 CPU" in why
            cluster.start_node("127.0.0.5")
            third = await asyncio.wait_for(asking, HANG_S)
            assert node_of(cluster, engine, third) == "127.0.0.5"
            for each in (*sessions, third):
                await each.close()
        assert cluster.workers() == []


async def test_nodes_with_nothing_but_ray_are_given_what_workers_need(tmp_path: Path) -> None:
    """From PyPI, by Ray, into an environment of its own; and the user's own code, where the consumer starts."""
    job = tmp_path / "job"
    job.mkdir()
    (job / "consumer.py").write_text("import os\nprint('the consumer is in', os.getcwd(), flush=True)\n")
    async with ray_cluster(tmp_path / "unused") as cluster:
        cluster.settings.update(python="python", install=True, code=str(job))
        settings = settings_of(cluster, tmp_path / "engine", inactivity_timeout=600.0)
        (endpoint_config,) = settings.endpoints
        group = replace(endpoint_config.workergroups[0], consumer="python consumer.py")
        settings = replace(settings, endpoints=(replace(endpoint_config, workergroups=(group,)),))
        async with running(settings) as engine, endpoint_of(engine) as endpoint:
            session = await asyncio.wait_for(endpoint.session(cost=100, lifetime=300), 600)
            (process,) = cluster.workers()
            assert "/virtualenv/" in process.exe() or "/virtualenv/" in process.cmdline()[0]
            orders: Any = engine.server._orders
            (worker_id,) = engine.workers
            text = ""
            for _ in range(600):
                text = (await orders.read_log(worker_id, 100_000)).decode()
                if "the consumer is in" in text:
                    break
                await asyncio.sleep(0.2)
            assert "/own" in text.partition("the consumer is in")[2], text
            await session.close()
        assert cluster.workers() == []


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="a network namespace needs root and ip (make brokers)"
)
async def test_a_link_that_is_cut_and_heals(tmp_path: Path) -> None:
    """Cut for a moment, it costs nothing; for longer, Ray gives the node up: what is held there ends, and it alone."""
    with behind_a_link("nwray") as (namespace, near, far):
        async with ray_cluster(tmp_path / "unused", near) as cluster:
            cluster.kill("127.0.0.4")
            cluster.prefix[far] = ["ip", "netns", "exec", namespace]
            cluster.start_node(far)
            await cluster.has("127.0.0.3", far)
            settings = settings_of(cluster, tmp_path / "engine", max_workers=2, inactivity_timeout=600.0)
            async with running(replace(settings, host=near)) as engine, endpoint_of(engine) as endpoint:
                sessions = await asyncio.gather(*(endpoint.session(cost=100, lifetime=3600) for _ in range(2)))
                by_node = {node_of(cluster, engine, each): each for each in sessions}
                assert by_node[far].url.startswith(f"http://{far}:"), "where its node reaches the engine from"
                core = engine.server.driver.engine
                ip("link", "set", namespace, "down")
                await asyncio.sleep(1.0)
                ip("link", "set", namespace, "up")
                for each in by_node.values():
                    assert await each.is_open()
                (worker_id,) = [i for i, each in core.state.workers.items() if each.url == by_node[far].url]
                before = cluster.workers(f"-{worker_id}-")
                assert before
                ip("link", "set", namespace, "down")
                await until(lambda: worker_id not in core.state.workers, hang_s=HANG_S)
                assert await by_node["127.0.0.3"].is_open()
                ip("link", "set", namespace, "up")
                await until(lambda: not any(each.is_running() for each in before), "nothing is left", hang_s=HANG_S)
                cluster.kill(far)
                cluster.start_node(far)
                again = await asyncio.wait_for(endpoint.session(cost=100, lifetime=3600), HANG_S)
                assert node_of(cluster, engine, again) == far
                assert await by_node["127.0.0.3"].is_open()
                for each in (by_node["127.0.0.3"], again):
                    await each.close()
            assert cluster.workers() == []
