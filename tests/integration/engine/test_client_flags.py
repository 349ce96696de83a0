"""``python -m workers.null.client`` with each of its flags, against a real engine and real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One engine for all; it keeps a worker long enough that another test may find it."""
    async with running(config(tmp_path_factory.mktemp("engine"), quick(inactivity_timeout=3.0))) as engine:
        yield engine


@pytest_asyncio.fixture(loop_scope="module")
async def engine(shared: Running) -> Running:
    await until(lambda: not shared.server.driver.engine.state.reservations, "there are no reservations")
    return shared


async def start(engine: Running, *flags: str, key: str | None = None) -> asyncio.subprocess.Process:
    environ = {**os.environ, "VAST_API_KEY": engine.key if key is None else key}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers.null.client", "--instance", engine.url, *flags,
        env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def run(engine: Running, *flags: str, key: str | None = None) -> tuple[int, str, str]:
    process = await start(engine, *flags, key=key)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def decided(engine: Running, *kinds: str) -> list[Any]:
    return [d for d in engine.server.decisions.about() if d.kind in kinds]


async def test_a_deadline_that_passes_while_the_engine_would_hold_the_call_has_its_reason(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(max_workers=0))) as engine:
        code, _, err = await run(engine, "--endpoint", ENDPOINT, "--deadline", "1.5")
    assert code == 1
    assert "max_workers is 0" in err
    assert "raise the endpoint's max_workers" in err


async def test_endpoint_and_hold(engine: Running) -> None:
    before = len(decided(engine, "grant"))
    code, out, err = await run(engine, "--endpoint", ENDPOINT, "--hold", "0.5")
    assert (code, err) == (0, "")
    assert out
    assert len(decided(engine, "grant")) == before + 1
    await until(lambda: engine.workers == {}, "the fleet is back at zero")


async def test_count_and_interval(engine: Running) -> None:
    before = len(decided(engine, "grant"))
    code, _, err = await run(engine, "--endpoint", ENDPOINT, "--count", "3", "--interval", "0.2", "--hold", "4")
    assert (code, err) == (0, "")
    granted = decided(engine, "grant")[before:]
    assert len(granted) == len({d.worker_id for d in granted}) == 3


async def test_cost_reaches_the_engine(engine: Running) -> None:
    process = await start(engine, "--endpoint", ENDPOINT, "--cost", "37", "--hold", "30")
    state = engine.server.driver.engine.state
    await until(lambda: "held" in engine.workers.values(), "a worker is held")
    assert [r.cost for r in state.reservations.values()] == [37]
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 130
    await until(lambda: "held" not in engine.workers.values(), "Ctrl-C gave the worker back")


async def test_json_prints_one_object_a_line(engine: Running) -> None:
    code, out, _ = await run(engine, "--endpoint", ENDPOINT, "--hold", "0.1", "--json")
    assert code == 0
    assert all(isinstance(json.loads(line), dict) for line in out.splitlines())


@pytest.mark.parametrize(
    ("flags", "key", "code", "said"),
    [
        (("--endpoint", "no-such"), None, 1, "no-such"),
        (("--endpoint", ENDPOINT), "wrong-key-000", 1, "key"),
        ((), None, 2, "--endpoint"),
        (("--endpoint", ENDPOINT, "--count", "-1"), None, 2, "--count"),
    ],
)
async def test_a_mistake_is_one_sentence_and_a_code(
    engine: Running, flags: tuple[str, ...], key: str | None, code: int, said: str
) -> None:
    before = len(decided(engine, "create", "grant"))
    got, _, err = await run(engine, *flags, key=key)
    assert got == code
    assert said in err
    assert "Traceback" not in err
    assert len(decided(engine, "create", "grant")) == before
