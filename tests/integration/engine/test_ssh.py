"""An engine with workers on machines that are reached by SSH: null workers, and the unmodified client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.core import explain
from nullworker.engine.config import EndpointConfig, WorkergroupConfig
from tests.integration.engine.kit import ENDPOINT, config, quick, running, vast_client
from tests.integration.ssh_hosts import Host, behind_a_link, boxes_in, ip, needs_sshd
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from nullworker.engine.config import EngineConfig
    from tests.integration.engine.kit import Running
    from tests.integration.ssh_hosts import Boxes

pytestmark = needs_sshd


def settings_of(boxes: Boxes, state: Path, **parameters: Any) -> EngineConfig:
    table = {name: value for name, value in boxes.settings.items() if name != "state_dir"}
    return replace(config(state, quick(**parameters), fleet="ssh"), fleets={"ssh": table})


async def connected(engine: Running, host: Host, *, is_up: bool) -> None:
    """Returns when the engine knows whether a host answers."""
    assert engine.server._orders is not None
    fleet: Any = engine.server._orders.fleets["ssh"]
    await until(lambda: (fleet._connections[host.address].hello is not None) is is_up)


async def test_what_is_held_outlives_its_host_s_silence_and_a_restart_of_the_engine(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack, boxes_in(tmp_path, 1) as boxes:
        (host,) = boxes.hosts
        boxes.settings["hosts"][0]["slots"] = 1
        settings = replace(settings_of(boxes, tmp_path / "engine"), port=free_port())
        async with running(settings, destroy=False) as engine:
            client = await stack.enter_async_context(vast_client(engine.url, engine.key))
            endpoint = await client.get_endpoint(ENDPOINT)
            session = await endpoint.session(cost=100, lifetime=300)
            assert session.url.startswith("http://127.0.0.2:")
            host.cut()
            await connected(engine, host, is_up=False)
            await engine.server.driver.list_once("ssh")
            assert list(engine.workers.values()) == ["held"]
            held = engine.workers
            assert await session.is_open(), "the client talks to the worker itself"
        async with running(settings) as engine:
            core = engine.server.driver
            await core.list_once("ssh")
            assert engine.workers == held, "it is known, though its host does not answer"
            asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=300))
            await until(lambda: len(core.engine.state.reservations) == 2)
            waiter = max(core.engine.state.reservations)
            await until(lambda: "127.0.0.2 does not answer: " in explain.why_waiting(core.engine, waiter))
            assert "the fleet ssh has had no place since" in explain.why_waiting(core.engine, waiter)
            assert await session.is_open()
            host.start()
            await until(lambda: "in 1 slot" in explain.why_waiting(core.engine, waiter), "it is tried at once")
            await session.close()
            second = await asking
            assert engine.workers == held
            await second.close()
            await until(lambda: engine.workers == {})
        assert boxes.left() == []


async def test_when_the_cheap_fleet_is_full_the_dear_one_is_used(tmp_path: Path) -> None:
    """One endpoint over two fleets: a GPU of this machine, and then a host; never more than max_workers in all."""
    async with boxes_in(tmp_path, 1) as boxes:
        settings = settings_of(boxes, tmp_path / "engine")
        groups = (WorkergroupConfig(fleet="ssh", price_per_hour=0.9), WorkergroupConfig(gpus=1, price_per_hour=0.3))
        endpoints = (EndpointConfig(ENDPOINT, quick(max_workers=2), groups),)
        fleets = {**settings.fleets, "processes": {"gpus": 1, "grace_s": 2.0}}
        async with (
            running(replace(settings, endpoints=endpoints, fleets=fleets)) as engine,
            vast_client(engine.url, engine.key) as client,
        ):
            endpoint = await client.get_endpoint(ENDPOINT)
            sessions = [await endpoint.session(cost=100, lifetime=300) for _ in range(2)]
            assert ["127.0.0.2" in each.url for each in sessions] == [False, True]
            asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=300))
            core = engine.server.driver.engine
            await until(lambda: len(core.state.reservations) == 3)
            why = explain.why_waiting(core, max(core.state.reservations))
            assert "max_workers is 2" in why
            await sessions[0].close()
            sessions[0] = await asking
            assert "127.0.0.2" not in sessions[0].url
            for each in sessions:
                await each.close()


async def test_a_worker_on_a_host_is_told_the_authority_of_an_engine_with_tls(tmp_path: Path) -> None:
    async with boxes_in(tmp_path, 1) as boxes:
        settings = replace(settings_of(boxes, tmp_path / "engine", min_load=100.0), tls=True)
        async with running(settings) as engine:
            assert engine.url.startswith("https://")
            await until(lambda: engine.workers == {1: "ready"}, "it has reported")
            log = (boxes.hosts[0].directory(1, engine.server.keys.mark) / "worker.log").read_text()
            assert "CERTIFICATE_VERIFY_FAILED" not in log


@pytest.mark.long
async def test_a_host_with_nothing_but_python_is_given_what_workers_need(tmp_path: Path) -> None:
    """From PyPI, into a virtual environment of its own."""
    async with boxes_in(tmp_path, 1) as boxes:
        boxes.settings.update(python=str(Path(sys.base_prefix) / "bin/python3"), install=True)
        settings = settings_of(boxes, tmp_path / "engine")
        async with (
            running(settings) as engine,
            vast_client(engine.url, engine.key) as client,
        ):
            session = await asyncio.wait_for((await client.get_endpoint(ENDPOINT)).session(cost=100, lifetime=300), 600)
            assert session.url.startswith("http://127.0.0.2:")
            await session.close()
        (venv,) = [path for path in (boxes.hosts[0].home / ".nullworker/venvs").iterdir() if path.is_dir()]
        assert (venv / "complete").exists()


@pytest.mark.long
async def test_ten_times_a_host_is_lost_and_nothing_elsewhere(tmp_path: Path) -> None:
    """A host's workers die with it: their sessions are lost, and said to be; those on the other host go on."""
    async with boxes_in(tmp_path, 2) as boxes:
        for host in boxes.settings["hosts"]:
            host["slots"] = 2
        settings = settings_of(boxes, tmp_path / "engine", max_workers=4)
        async with (
            running(settings) as engine,
            vast_client(engine.url, engine.key) as client,
        ):
            endpoint = await client.get_endpoint(ENDPOINT)
            for turn in range(10):
                sessions = [await endpoint.session(cost=100, lifetime=300) for _ in range(4)]
                lost = boxes.hosts[turn % 2]
                lost.cut()
                for pid in lost.running():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await connected(engine, lost, is_up=False)
                elsewhere = [each for each in sessions if lost.address not in each.url]
                assert len(elsewhere) == 2
                assert all([await each.is_open() for each in elsewhere])
                lost.start()
                await connected(engine, lost, is_up=True)
                await until(lambda: sorted(engine.workers.values()) == ["held", "held"], "those of the host are gone")
                assert all([await each.is_open() for each in elsewhere])
                for each in elsewhere:
                    await each.close()
        assert boxes.left() == []


@pytest.mark.long
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="a network namespace needs root and ip (make brokers)"
)
async def test_a_link_that_is_cut_and_heals_costs_no_reservation(tmp_path: Path) -> None:
    with behind_a_link("nwssh") as (namespace, near, far):
        host = Host(far, tmp_path / "hosts" / "box", prefix=("ip", "netns", "exec", namespace))
        async with boxes_in(tmp_path, given=(host,)) as boxes:
            boxes.settings["silence_s"] = 3
            settings = replace(settings_of(boxes, tmp_path / "engine", inactivity_timeout=600.0), host=near)
            async with (
                running(settings) as engine,
                vast_client(engine.url, engine.key) as client,
            ):
                session = await (await client.get_endpoint(ENDPOINT)).session(cost=100, lifetime=300)
                assert session.url.startswith(f"http://{far}:")
                ip("link", "set", namespace, "down")
                await connected(engine, host, is_up=False)
                worker = engine.server.driver.engine.state.workers[1]
                await until(lambda: worker.trust.unresponsive, "its reports have stopped as well")
                await engine.server.driver.list_once("ssh")
                assert engine.workers == {1: "held"}, "it is held, and given to no other"
                ip("link", "set", namespace, "up")
                await connected(engine, host, is_up=True)
                await until(lambda: not worker.trust.unresponsive)
                assert await session.is_open()
                assert engine.workers == {1: "held"}
                assert len(boxes.left()) > 0
                await session.close()
            assert boxes.left() == []
