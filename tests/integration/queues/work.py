"""The job that consumers in the tests do, whatever their library: say that it has begun, hold until told to end.

Where to say it, and where to wait, is in the environment of the consumer's process (see consumers.py).
"""

from __future__ import annotations

import asyncio
import os

import redis

HOLD_LIMIT_S = 60  # a hang limit


def hold(*_: object) -> None:
    """Blocks until the test says so."""
    with redis.Redis.from_url(os.environ["TEST_CONTROL_URL"]) as client:
        client.rpush(os.environ["TEST_BEGUN_KEY"], "begun")
        assert client.blpop([os.environ["TEST_RELEASE_KEY"]], timeout=HOLD_LIMIT_S), "the test never ended this job"


async def hold_async(*_: object) -> None:
    """The same without blocking the loop that the library's own heartbeat runs on."""
    await asyncio.to_thread(hold)
