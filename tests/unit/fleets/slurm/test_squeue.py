"""What squeue prints, read: only the fleet's own jobs, with Slurm's words for why they wait."""

from __future__ import annotations

import asyncio

import pytest

from nullworker.fleets.base import FleetError
from nullworker.fleets.slurm import squeue
from nullworker.fleets.slurm.squeue import QueueView, SlurmError, command, jobs_in

PRINTED = """
7|PENDING|Resources|N/A|nw-1|nullworker-mark
8|RUNNING|None|2026-11-27T23:59:00|nw-2|nullworker-mark
9|COMPLETED|None|2026-11-27T23:00:00|nw-3|nullworker-mark
10|RUNNING|None|NONE|nw-1|nullworker-another
11|RUNNING|None|NONE|nw-1|(null)
12_1|RUNNING|None|NONE|array|nullworker-mark
slurm_load_jobs error: something else
"""


def test_only_jobs_with_the_mark_are_read() -> None:
    jobs = {job.job_id: job for job in jobs_in(PRINTED, "nullworker-mark")}
    assert sorted(jobs) == [7, 8, 9]
    assert (jobs[7].waits, jobs[7].has_ended, jobs[7].reason, jobs[7].ends_at) == (True, False, "Resources", None)
    assert (jobs[8].waits, jobs[8].has_ended) == (False, False)
    assert jobs[8].ends_at is not None
    assert jobs[9].has_ended


async def test_one_question_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    async def answered(words: list[str], _text: str = "") -> str:
        asked.append(words)
        await asyncio.sleep(0)
        return PRINTED

    monkeypatch.setattr(squeue, "command", answered)
    queue = QueueView("nullworker-mark", 30.0)
    views = await asyncio.gather(*(queue.view() for _ in range(10)))
    assert len(asked) == 1
    assert all(view is views[0] for view in views)
    assert await queue.view() is views[0]
    assert queue.latest is views[0]


async def test_a_command_that_is_refused_is_told_in_slurm_s_words() -> None:
    script = "echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1"
    with pytest.raises(SlurmError, match=r"^Slurm refused sh: invalid partition specified: nope\.$") as refused:
        await command(["sh", "-c", script])
    assert refused.value.definite


async def test_a_command_that_does_not_answer_may_have_been_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squeue, "COMMAND_S", 0.05)
    with pytest.raises(FleetError, match="has not answered sleep") as lost:
        await command(["sleep", "60"])
    assert not lost.value.definite
