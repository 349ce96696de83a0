"""Starts a consumer as a process of its own (`take_one`), and kills it in the middle of its job."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process

ROOT = Path(__file__).parents[3]
LIMIT_S = 60.0  # a hang limit: a consumer needs about a second to start


@dataclass(frozen=True)
class AtJob:
    """A consumer that is at a job."""

    process: Process
    handle: str  # of the job, as its broker names it

    async def kill(self) -> None:
        """Without a word to the broker."""
        self.process.kill()
        await asyncio.wait_for(self.process.wait(), LIMIT_S)


async def take_one(kind: str, *arguments: object) -> AtJob:
    """Starts a consumer; returns when it has a job.

    Args:
        kind: of `take_one.KINDS`.
        arguments: of its function there.

    Raises:
        AssertionError: it got none.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.integration.queues.take_one", kind),
        *map(str, arguments),
        cwd=ROOT,
        stdin=subprocess.PIPE,  # ends with the test
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    handle = (await asyncio.wait_for(process.stdout.readline(), LIMIT_S)).decode().strip()
    assert handle, f"a consumer of {kind} ended with {await process.wait()} before it had a job"
    return AtJob(process, handle)
