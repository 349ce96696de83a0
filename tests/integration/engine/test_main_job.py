"""The main job on real parts: engine, process fleet, Null PyWorker and the unmodified client."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil

from nullworker.core.reservation import Stage
from tests.integration.engine.kit import config, endpoint_of, quick, running
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


async def test_a_reservation_brings_a_worker_up_from_zero_and_its_end_brings_it_down(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine:
        assert engine.workers == {}
        async with endpoint_of(engine) as endpoint:
            session = await endpoint.session(cost=100, lifetime=60)
            assert list(engine.workers.values()) == ["held"]
            assert await session.is_open()
            await session.close()
            await until(lambda: engine.workers == {}, "the fleet is back at zero")


async def test_n_reservations_at_once_get_n_workers_and_no_more(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine:
        async with endpoint_of(engine) as endpoint:
            sessions = await asyncio.gather(*(endpoint.session(cost=100, lifetime=60) for _ in range(4)))
            assert sorted(engine.workers.values()) == ["held"] * 4
            assert len({session.url for session in sessions}) == 4
            rows = await endpoint.get_workers()
            assert [row.reqs_working for row in rows] == [1] * 4
            await asyncio.gather(*(session.close() for session in sessions))
        await until(lambda: engine.workers == {}, "the fleet is back at zero")
        refusals = [d for d in engine.server.decisions.about() if d.kind == "grant_refused"]
        assert refusals == []


def _is_longer(waiting: Mapping[int, object], before: int) -> bool:
    return len(waiting) > before


async def test_a_freed_worker_goes_to_the_one_who_has_waited_longest(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(max_workers=1))) as engine, endpoint_of(engine) as endpoint:
        holder = await endpoint.session(cost=100, lifetime=60)
        state = engine.server.driver.engine.state
        waiting = []
        pool = state.endpoints[engine.endpoint_id()]
        for _ in range(2):
            before = len(pool.line.waiting)
            waiting.append(asyncio.ensure_future(endpoint.session(cost=100, lifetime=60)))
            await until(functools.partial(_is_longer, pool.line.waiting, before), "it waits")
        for task in waiting:
            await holder.close()
            holder = await task
        await holder.close()
        assert len(engine.server.decisions.about(worker_id=1)) > 0
        assert {d.worker_id for d in engine.server.decisions.about() if d.kind == "create"} == {1}


async def test_the_consumer_runs_while_the_worker_is_held_and_its_end_gives_the_worker_back(tmp_path: Path) -> None:
    done = tmp_path / "done.txt"
    script = f"import pathlib; pathlib.Path({str(done)!r}).open('a').write('x')"
    consumer = f'{sys.executable} -c "{script}"'
    async with running(config(tmp_path / "state", quick(), consumer=consumer)) as engine:
        async with endpoint_of(engine) as endpoint:
            await endpoint.session(cost=100, lifetime=60)
            await until(done.exists, "the consumer ran")
            await until(lambda: "held" not in engine.workers.values(), "the worker was given back")
        await until(lambda: engine.workers == {}, "the fleet is back at zero")


async def test_a_waiter_that_hangs_up_is_forgotten_and_nothing_is_created_for_it(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(max_workers=0))) as engine, endpoint_of(engine) as endpoint:
        state = engine.server.driver.engine.state
        asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=60))
        await until(lambda: bool(state.reservations), "it waits")
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: not state.reservations, "it is forgotten")
        assert engine.workers == {}


def null_worker_pid() -> int:
    """The process of the one worker that there is."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # what a test before this one started may be ending
            if "workers.null.worker" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    (pid,) = found
    return pid


async def test_a_worker_that_is_killed_while_held_is_replaced_and_the_loss_is_on_record(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine, endpoint_of(engine) as endpoint:
        await endpoint.session(cost=100, lifetime=60)
        reservations = engine.server.driver.engine.state.reservations
        await until(lambda: all(r.stage is Stage.SESSION for r in reservations.values()), "the worker confirmed it")
        os.kill(null_worker_pid(), signal.SIGKILL)
        await until(lambda: 1 not in engine.workers, "the dead worker is gone")
        lost = [d for d in engine.server.decisions.about(worker_id=1) if d.kind == "session_lost"]
        assert len(lost) == 1
        assert "SIGKILL" in lost[0].reason
        again = await endpoint.session(cost=100, lifetime=60)
        assert list(engine.workers) == [2]
        await again.close()
