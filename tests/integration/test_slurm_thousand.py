"""A thousand workers on a Slurm that is a dictionary, in virtual time: how often the place is asked."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import InstanceState
from nullworker.fleets.slurm import SlurmFleet, squeue
from nullworker.testing.fleets import plain_spec
from tests.kit.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    import pytest

WORKERS = 1000
#: How long they are watched, in seconds.
WATCHED_S = 60


class DictionarySlurm:
    """Answers as Slurm's commands do. All its jobs run, from their submission on."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.names: dict[int, str] = {}

    async def command(self, words: list[str], text: str = "") -> str:
        self.asked[words[0] + (" --test-only" if "--test-only" in words else "")] += 1
        if words[0] == "squeue":
            return "".join(f"{i}|RUNNING|None|N/A|{name}|nullworker-mark\n" for i, name in self.names.items())
        if words[0] == "scancel":
            del self.names[int(words[1])]
        if text:
            (name,) = [word.partition("=")[2] for word in words if word.startswith("--job-name=")]
            (directory,) = [word.partition("=")[2] for word in words if word.startswith("--chdir=")]
            self.names[len(self.names) + 1] = name
            (Path(directory) / f"runs.{len(self.names)}").write_text("10.0.0.1:3000")
            return f"{len(self.names)}\n"
        return ""


def test_a_thousand_workers_cost_two_questions_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sbatch for each, and one squeue for all of them at most every 30 s, however often the engine lists."""
    slurm = DictionarySlurm()
    monkeypatch.setattr(squeue, "command", slurm.command)
    monkeypatch.setattr("nullworker.fleets.slurm.fleet.command", slurm.command)
    monkeypatch.setattr("nullworker.fleets.slurm.fleet.WATCH_S", 5.0)  # it reads files, and these are a thousand
    settings: dict[str, Any] = {"state_dir": tmp_path, "backlog": WORKERS}

    async def watched() -> None:
        exits: list[tuple[int, str]] = []
        fleet = await SlurmFleet.open(settings, "mark", lambda *exited: exits.append(exited))
        began_s = asyncio.get_running_loop().time()
        for worker_id in range(1, WORKERS + 1):
            await fleet.create(plain_spec(worker_id))
        for _ in range(WATCHED_S // 2):
            await asyncio.sleep(2)
            listed = await fleet.list()
        assert [each.state for each in listed] == [InstanceState.RUNNING] * WORKERS
        passed_s = asyncio.get_running_loop().time() - began_s
        assert slurm.asked == {"sbatch --test-only": 1, "sbatch": WORKERS, "squeue": 1 + passed_s // 30}
        assert exits == []
        await fleet.close()

    run_in_virtual_time(watched())
