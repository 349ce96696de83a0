"""Takes jobs of a Redis list until there is none, and waits for a Redis that is away: ``redis_consumer.py URL``.

A job moves from the list ``jobs`` to the list ``processing`` while it is worked on.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import redis

from tests.integration.dispatch.notes import work

if TYPE_CHECKING:
    from collections.abc import Callable


def patiently(call: Callable[[], Any]) -> Any:
    while True:
        try:
            return call()
        except redis.RedisError:
            time.sleep(0.1)


def main(url: str) -> None:
    client = redis.Redis.from_url(url)
    while (job := patiently(lambda: client.lmove("jobs", "processing", "LEFT", "RIGHT"))) is not None:
        name, seconds = job.decode().split()
        work(name, float(seconds))
        patiently(lambda taken=job: client.lrem("processing", 1, taken))  # type: ignore[misc]


if __name__ == "__main__":
    main(sys.argv[1])
