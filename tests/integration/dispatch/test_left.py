"""The lone job of a dead consumer, at zero workers: one comes for it after its lease, and does it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import nats
import pytest
from nats.js.api import ConsumerConfig

from tests.integration.dispatch.kit import ROOT, check_peak, dispatching, farm, python
from tests.integration.queues.nats_server import nats_server
from tests.integration.queues.redis_server import RedisDatabase, redis_server
from tests.integration.queues.work_celery import make_app
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

LEASE_S = 2
#: The job: its consumer is killed, or it fails, the first time.
KILLED = "kill -9 $PPID; exit 1"
FAILED = "exit 1"
JOB = 'if mkdir "$0" 2>/dev/null; then {}; fi; echo done >> "$0/done"'


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("accident", [KILLED, pytest.param(FAILED, marks=pytest.mark.long)])
async def test_a_message_of_nats_whose_consumer_died_or_whose_job_failed(tmp_path: Path, accident: str) -> None:
    """JetStream keeps it in flight until a consumer asks, so that after its lease one is sent."""
    with nats_server(folder(tmp_path / "nats")) as server:
        client = await nats.connect(server.address)
        stream = client.jetstream()
        await stream.add_stream(name="JOBS", subjects=["jobs.*"])
        await stream.add_consumer("JOBS", ConsumerConfig(durable_name="workers", ack_wait=LEASE_S))
        await stream.publish("jobs.render", b"job")
        place = tmp_path / "job"
        example = str(ROOT / "examples" / "nats_consumer.py")
        command = [sys.executable, example, "JOBS", "workers", "sh", "-c", JOB.format(accident), str(place)]
        environment = {"NATS_URL": server.address, "LEASE_S": str(LEASE_S)}
        async with farm(tmp_path, command, most=2, **environment) as running:
            url = server.url("stream=JOBS&consumer=workers")
            with dispatching(running, tmp_path, url, "--until-empty") as dispatcher:
                assert await dispatcher.wait() == 0, dispatcher.tail()
            await until(lambda: not running.workers, "all workers have gone")
            assert (place / "done").read_text() == "done\n"
            info = await stream.consumer_info("JOBS", "workers")
            assert (info.num_pending, info.num_ack_pending) == (0, 0)
            check_peak(running, 1)
        await client.close()


@pytest.mark.long
async def test_a_task_of_celery_whose_worker_was_killed(tmp_path: Path) -> None:
    """Redis has it as unacknowledged; when its visibility timeout is over, a worker comes, and kombu gives it back."""
    with redis_server(folder(tmp_path / "redis"), "--notify-keyspace-events", "KA") as broker:
        database = RedisDatabase(broker.port, 1)
        app = make_app(database.url, acks_late=True)
        app.send_task("crash", queue="gpu")
        async with farm(tmp_path, python("celery_consumer.py", database.url, str(LEASE_S))) as running:
            url = f"celery+redis://{database.address}?queue=gpu&acks_late=true&visibility_timeout={LEASE_S}"
            with dispatching(running, tmp_path, url, "--until-empty") as dispatcher:
                assert await dispatcher.wait() == 0, dispatcher.tail()
            await until(lambda: not running.workers, "all workers have gone")
            assert sorted(run.ended_at is None for run in running.runs()) == [False, True]
            check_peak(running, 1)
        app.close()
