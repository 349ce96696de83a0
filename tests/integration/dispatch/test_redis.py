"""Redis goes away and comes back, and RQ works through many jobs while the dispatcher is killed three times."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest
import redis
import rq

from tests.integration.dispatch import notes
from tests.integration.dispatch.kit import check_peak, check_runs, check_the_last, dispatching, farm, mixed, python
from tests.integration.queues.redis_server import redis_server
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "s3cret-pass"


def folder(tmp_path: Path, name: str) -> Path:
    made = tmp_path / name
    made.mkdir()
    return made


async def test_a_broker_that_is_away_is_no_empty_queue(tmp_path: Path) -> None:
    """What is held stays held, what waits stays asked for, and it goes on when the broker is back."""
    place, port = folder(tmp_path, "redis"), free_port()
    flags = ("--requirepass", PASSWORD, "--notify-keyspace-events", "KA")
    url = f"redis://:{PASSWORD}@127.0.0.1:{port}/0"
    jobs = [f"job-{number}" for number in range(6)]
    async with farm(tmp_path, python("redis_consumer.py", url), most=2) as running:
        queue = f"redis-list://:{PASSWORD}@127.0.0.1:{port}/0?key=jobs&processing=processing"
        with dispatching(running, tmp_path, queue, "--until-empty") as dispatcher:
            await until(lambda: "does not answer" in said(dispatcher), "it says who is away")
            with redis_server(place, *flags, port=port), redis.Redis.from_url(url) as client:
                client.rpush("jobs", *(f"{job} 2" for job in jobs))
                await until(lambda: dispatcher.last.get("held") == 2, lambda: f"two are held: {dispatcher.tail()}")
                asked = dispatcher.last["asked"]
                assert asked == 2
            await until(lambda: said(dispatcher) != "", "it says that the broker is away again")
            await asyncio.sleep(1.5)
            assert (dispatcher.last["held"], dispatcher.last["asked"]) == (2, asked)
            assert running.held == 2
            with redis_server(place, *flags, port=port):
                assert await dispatcher.wait() == 0, dispatcher.tail()
        check_runs(running.runs(), jobs)
        check_peak(running, 2)
        for file in (dispatcher.log, dispatcher.out, *(tmp_path / "dispatch-state").iterdir()):
            assert PASSWORD.encode() not in file.read_bytes(), file


def said(dispatcher: Any) -> str:
    return str(dispatcher.last.get("trouble", ""))


@pytest.mark.long  # RabbitMQ has the same in each run
@pytest.mark.parametrize("count", [40, 500])
async def test_many_jobs_of_rq_while_the_dispatcher_is_killed_three_times(tmp_path: Path, count: int) -> None:
    """All done, each once, on held workers, never more than four of them; and back to zero.

    Then there is one job more, alone, whose consumer is killed: at zero workers another one is brought for it.
    """
    with redis_server(folder(tmp_path, "redis"), "--notify-keyspace-events", "KA") as broker:
        url = f"redis://127.0.0.1:{broker.port}/1"
        # Without a fork for each job, which would be most of the work here.
        kind = ("--worker-class", "rq.worker.SimpleWorker")
        command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--max-jobs", "40", *kind, "--url", url, "gpu"]
        with redis.Redis.from_url(url) as client:
            queue = rq.Queue("gpu", connection=client)
            jobs = mixed(count)
            for name, seconds in jobs:
                queue.enqueue(notes.work, name, seconds)
            async with farm(tmp_path, command, most=6) as running:
                address = f"rq://127.0.0.1:{broker.port}/1?queue=gpu"
                with dispatching(running, tmp_path, address, "--until-empty") as dispatcher:
                    await dispatcher.kill_at(lambda: len(running.runs()), count // 10, count // 3, 2 * count // 3)
                    assert await dispatcher.wait() == 0, dispatcher.tail()
                    assert dispatcher.starts == 4
                    await until(lambda: not running.held, "no worker is held")
                    await until(lambda: not running.workers, "all workers have gone")
                    check_runs(running.runs(), [name for name, _ in jobs])
                    queue.enqueue(notes.work, "crash-last", 0.1, retry=rq.Retry(max=1))
                    dispatcher.start()
                    await until(lambda: running.held == 1 and "crash-last" in running.begun(), dispatcher.tail)
                    await until(lambda: not running.held, dispatcher.tail)
                    for execution in client.zrange(queue.started_job_registry.key, 0, -1):
                        client.zadd(queue.started_job_registry.key, {execution: 1})  # its heartbeat was long ago
                    assert await dispatcher.wait() == 0, dispatcher.tail()
                check_the_last(running.runs(), "crash-last")
                await until(lambda: not running.workers, "all workers have gone again")
                check_peak(running, 4)
            assert len(queue.finished_job_registry) == count + 1
            assert (len(queue), len(queue.failed_job_registry), len(queue.started_job_registry)) == (0, 0, 0)
