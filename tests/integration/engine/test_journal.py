"""The journal of a real engine, through real workers and a kill, replays to the very same commands."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.engine.engines import Engines, key_of
from tests.integration.engine.kit import vast_client
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(tmp_path / "state")
    yield engines
    await engines.end()


async def replay(path: Path, *flags: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nullworker.cli.main", "replay", str(path), *flags,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


async def use(said: dict[str, Any], count: int) -> None:
    """So many reservations at once, held and given back."""
    async with vast_client(said["url"], key_of(said)) as client:
        endpoint = await client.get_endpoint("null-local")
        sessions = await asyncio.gather(*(endpoint.session(cost=100, lifetime=60) for _ in range(count)))
        await asyncio.gather(*(session.close() for session in sessions))


@pytest.mark.promise("P14")
async def test_a_journal_replays_identically_through_a_kill_and_a_change_is_found(
    engines: Engines, tmp_path: Path
) -> None:
    path = tmp_path / "engine.journal"
    flags = ("--journal", str(path), "--set", "endpoint.null-local.inactivity_timeout=1")
    process, said = await engines.start(*flags)
    await use(said, 2)
    await until(lambda: not engines.worker_pids(), "the fleet is back at zero")
    await use(said, 1)
    process.kill()
    await process.wait()
    code, text = await replay(path)
    assert code == 0, text
    assert text.startswith("identical")
    process, said = await engines.start(*flags)
    await use(said, 2)
    process.terminate()
    assert await asyncio.wait_for(process.wait(), HANG_S) == 0
    code, text = await replay(path, "--json")
    found = json.loads(text)
    assert (code, found["identical"], found["engines"]) == (0, True, 2), found
    assert found["events"] > 30
    assert key_of(said) not in path.read_text()

    lines = path.read_text().splitlines()
    first = next(number for number, line in enumerate(lines, 1) if '"Grant"' in line)
    lines[first - 1] = lines[first - 1].replace("first of", "last of")
    changed = tmp_path / "changed.journal"
    changed.write_text("\n".join(lines))
    code, text = await replay(changed)
    assert code == 1
    assert f"line {first}:" in text
    assert "Grant(" in text


async def test_what_is_no_journal_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "no.journal"
    path.write_text("nonsense\nnonsense\n")
    code, text = await replay(path)
    assert code == 1
    assert "line 1" in text
    assert "Traceback" not in text
