"""A worker that somebody starts by hand joins an endpoint with its token: it is routed to, and never ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from tests.integration.engine.kit import ENDPOINT, Running, config, endpoint_of, invitation, quick, running
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.promise("P9")


@contextlib.asynccontextmanager
async def joined(engine: Running, directory: Path) -> AsyncIterator[tuple[int, asyncio.subprocess.Process]]:
    """A worker that joined: its id and its process."""
    variables = await invitation(engine)
    own = {"NULL_CONTROL_PORT": str(free_port()), "WORKER_HTTP_PORT": str(free_port()), "WORKER_HOST": "127.0.0.1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers.null.worker", cwd=directory, env={**os.environ, **variables, **own},
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        worker_id = int(variables["CONTAINER_ID"])
        await until(lambda: engine.workers.get(worker_id) == "ready", "the worker has joined")
        yield worker_id, process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_it_is_routed_to_and_outlives_idleness_and_the_endpoint(tmp_path: Path) -> None:
    async with running(config(tmp_path / "state", quick(max_workers=0))) as engine:
        async with joined(engine, tmp_path) as (worker_id, process):
            async with endpoint_of(engine) as endpoint:
                session = await endpoint.session(cost=100, lifetime=60)
                assert engine.workers == {worker_id: "held"}
                await session.close()
            await until(lambda: engine.workers == {worker_id: "ready"}, "it is free again")
            await asyncio.sleep(3)  # inactivity_timeout is 1 s
            assert engine.workers == {worker_id: "ready"}
            await engine.call("PUT", f"/api/v0/endptjobs/{engine.endpoint_id()}/", {"max_workers": 1})
            async with endpoint_of(engine) as endpoint:
                sessions = await asyncio.gather(*(endpoint.session(cost=100, lifetime=60) for _ in range(1)))
                assert list(engine.workers) == [worker_id], "it counts: nothing is created beside it"
                await sessions[0].close()
            await engine.call("DELETE", f"/api/v0/endptjobs/{engine.endpoint_id()}/?force=true")
            await until(lambda: engine.workers == {}, "the engine has forgotten it")
            assert process.returncode is None
        orders = [d.kind for d in engine.server.decisions.about(worker_id=worker_id)]
    assert not {"start", "stop", "destroy"} & set(orders)


async def test_an_endpoints_token_joins_no_other_and_takes_no_worker_of_ours(tmp_path: Path) -> None:
    # With its own worker and the one that joins there is one too many: it must not go before the end.
    parameters = quick(min_load=100.0, inactivity_timeout=3600.0)
    async with running(config(tmp_path, parameters)) as engine:
        await until(lambda: list(engine.workers.values()) == ["ready"], "the engine's own worker is ready")
        variables = await invitation(engine)
        await engine.call("POST", "/api/v0/endptjobs/", {"endpoint_name": "other", "min_load": 0, "cold_workers": 0})
        await engine.call("POST", "/api/v0/autojobs/", {"endpoint_name": "other", "template_hash": "null"})
        report = {"loadtime": 1.0, "max_perf": 100.0, "url": "http://127.0.0.1:9"}
        as_ours = {"id": 1, "mtoken": variables["MASTER_TOKEN"], **report}
        assert (await engine.call("POST", "/worker_status/", as_ours))[0] == 401
        mine = {"id": int(variables["CONTAINER_ID"]), "mtoken": variables["MASTER_TOKEN"], **report}
        assert (await engine.call("POST", "/worker_status/", mine))[0] == 200
        others = await invitation(engine, "other")
        as_mine = {**mine, "mtoken": others["MASTER_TOKEN"]}
        assert (await engine.call("POST", "/worker_status/", as_mine))[0] == 401
        url = engine.server.driver.engine.state.workers[1].url
        assert url != report["url"]


async def test_who_asks_for_no_endpoint_or_without_the_account_key_gets_no_token(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(max_workers=0))) as engine:
        assert (await engine.call("GET", "/api/v0/invite/?endpoint=no-such"))[0] == 400
        assert (await engine.call("GET", "/api/v0/invite/"))[0] == 400
        key = engine.server.keys.endpoint_key(engine.endpoint_id()).reveal()
        assert (await engine.call("GET", f"/api/v0/invite/?endpoint={ENDPOINT}", key=key))[0] == 401
