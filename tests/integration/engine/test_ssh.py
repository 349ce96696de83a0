"""An engine with workers on machines that are reached by SSH: null workers, and the unmodified client."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nullworker.core import explain
from tests.integration.engine.kit import ENDPOINT, config, quick, running, vast_client
from tests.integration.ssh_hosts import boxes_in, needs_sshd
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.engine.config import EngineConfig
    from tests.integration.ssh_hosts import Boxes

pytestmark = needs_sshd


def settings_of(boxes: Boxes, state: Path, **parameters: Any) -> EngineConfig:
    table = {name: value for name, value in boxes.settings.items() if name != "state_dir"}
    return replace(config(state, quick(**parameters), fleet="ssh"), fleets={"ssh": table})


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
            assert engine.server._orders is not None
            fleet: Any = engine.server._orders.fleets["ssh"]
            await until(lambda: fleet._connections[host.address].hello is None)
            await engine.server.driver.list_once("ssh")
            assert engine.workers == {1: "held"}
            assert await session.is_open(), "the client talks to the worker itself"
        async with running(settings) as engine:
            core = engine.server.driver
            await core.list_once("ssh")
            assert engine.workers == {1: "held"}, "it is known, though its host does not answer"
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
            assert engine.workers == {1: "held"}
            await second.close()
            await until(lambda: engine.workers == {})
        assert boxes.left() == []
