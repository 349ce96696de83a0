"""arq in a process of its own, for it wants an older redis-py than Celery does.

``consume_arq.py PORT DATABASE QUEUE`` is a worker that takes one job and ends after it;
``consume_arq.py PORT DATABASE QUEUE COUNT DELAY`` is a producer of so many jobs, due in so many seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from arq.connections import RedisSettings, create_pool
from arq.worker import Worker

from tests.integration.queues import work


async def hold_async(ctx: dict[Any, Any], *_: Any, **__: Any) -> None:
    ctx["worker"].allow_pick_jobs = False
    await work.hold_async()


async def end(ctx: dict[Any, Any]) -> None:
    os._exit(0)  # after_job_end is called when Redis knows that the job is done


def consume(settings: RedisSettings, queue: str) -> None:
    worker = Worker(
        [hold_async], queue_name=queue, redis_settings=settings, max_jobs=1, poll_delay=0.02, after_job_end=end
    )
    worker.ctx["worker"] = worker
    worker.run()


async def produce(settings: RedisSettings, queue: str, count: int, delay_s: float) -> None:
    pool = await create_pool(settings, default_queue_name=queue)
    for _ in range(count):
        await pool.enqueue_job("hold_async", _defer_by=delay_s or None)
    await pool.aclose()


def main() -> None:
    port, database, queue, *what = sys.argv[1:]
    settings = RedisSettings("127.0.0.1", int(port), database=int(database))
    if what:
        asyncio.run(produce(settings, queue, int(what[0]), float(what[1])))
    else:
        consume(settings, queue)


if __name__ == "__main__":
    main()
