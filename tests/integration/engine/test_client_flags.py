"""``python -m workers.null.client`` with each of its flags, against a real engine and real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(config(tmp_path, quick())) as engine:
        yield engine


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


def grants(engine: Running) -> list[Any]:
    return [d for d in engine.server.decisions.about() if d.kind == "grant"]


async def test_endpoint_and_hold(engine: Running) -> None:
    code, out, err = await run(engine, "--endpoint", ENDPOINT, "--hold", "0.5")
    assert (code, err) == (0, "")
    assert out
    assert len(grants(engine)) == 1
    await until(lambda: engine.workers == {}, "the fleet is back at zero")


async def test_count_and_interval(engine: Running) -> None:
    code, _, err = await run(engine, "--endpoint", ENDPOINT, "--count", "3", "--interval", "0.2", "--hold", "4")
    assert (code, err) == (0, "")
    assert len({d.worker_id for d in grants(engine)}) == 3


async def test_cost_reaches_the_engine(engine: Running) -> None:
    process = await start(engine, "--endpoint", ENDPOINT, "--cost", "37", "--hold", "30")
    ledger = engine.server.driver.engine.ledger
    await until(lambda: "held" in engine.workers.values(), "a worker is held")
    assert [r.cost for r in ledger.reservations.values()] == [37]
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
    got, _, err = await run(engine, *flags, key=key)
    assert got == code
    assert said in err
    assert "Traceback" not in err
    assert engine.workers == {}
