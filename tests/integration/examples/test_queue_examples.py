"""The examples for queue libraries, as their first lines say to run them: from zero workers and back to zero."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.dispatch.kit import ROOT, check_peak, dispatching, farm
from tests.integration.queues.brokers import node_library
from tests.integration.queues.postgres import postgres_server
from tests.integration.queues.redis_server import RedisDatabase, redis_server
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = ROOT / "examples"
LINES_MAX = 40
JOBS = 3
NODE_FOLDER = ROOT / "tests" / "integration" / "queues" / "node"


@dataclass(frozen=True)
class Head:
    """What the first lines of an example say to type."""

    consumer: str
    queue: str
    producer: list[str]

    @classmethod
    def of(cls, example: str) -> Head:
        text = (EXAMPLES / example).read_text()
        consumer = re.search(r"nullworker engine --set endpoint\.null-local\.workergroup\.0\.consumer='(.+)'", text)
        queue = re.search(r"nullworker dispatch --endpoint null-local --queue '(.+)'", text)
        producer = re.search(rf"^[ /]* ((?:python|node) {re.escape(example)} )\d+$", text, re.MULTILINE)
        assert consumer is not None
        assert queue is not None
        assert producer is not None
        return cls(consumer[1], queue[1], producer[1].split())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[RedisDatabase]:
    place = tmp_path / "redis"
    place.mkdir()
    with redis_server(place, "--notify-keyspace-events", "KA") as broker:
        yield RedisDatabase(broker.port, 3)


@pytest.mark.parametrize(
    "example",
    [
        pytest.param("celery_tasks.py", marks=pytest.mark.long),  # the tutorial has Celery as well
        pytest.param("rq_jobs.py", marks=pytest.mark.long),
        pytest.param("bullmq_worker.cjs", marks=pytest.mark.long),
    ],
)
async def test_each_job_has_a_worker_and_then_there_is_none(
    database: RedisDatabase, tmp_path: Path, example: str
) -> None:
    """Every job is done, each once, two at a time and one in each reservation; then all workers go."""
    head = Head.of(example)
    environment = {"REDIS_URL": database.url, "RQ_REDIS_URL": database.url, "NULL_CONSUMER_DIR": str(EXAMPLES)}
    if example.endswith(".cjs"):
        _, modules = node_library(NODE_FOLDER)
        environment["NODE_PATH"] = str(modules / "node_modules")
    queue = head.queue.replace("localhost/0", database.address)
    assert queue != head.queue
    await check(tmp_path, head, queue, environment)


@pytest.mark.long
async def test_so_it_is_with_postgresql(tmp_path: Path) -> None:
    head = Head.of("procrastinate_app.py")
    with postgres_server() as postgres:
        name = postgres.create_database()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an environment that is active
        environment = {"DATABASE_URL": postgres.dsn(name), "NULL_CONSUMER_DIR": str(EXAMPLES), "PATH": path}
        schema = [sys.executable, "-m", "procrastinate", "--app", "procrastinate_app.app", "schema", "--apply"]
        await asyncio.to_thread(run, schema, environment)
        queue = head.queue.replace("procrastinate://localhost/jobs", postgres.url("procrastinate", name))
        assert queue != head.queue
        await check(tmp_path, head, queue, environment)


async def check(tmp_path: Path, head: Head, queue: str, environment: dict[str, str]) -> None:
    """Every job is done, each once, two at a time and one in each reservation; then all workers go."""
    async with farm(tmp_path, head.consumer, most=2, **environment) as running:
        await asyncio.to_thread(produce, head, environment)
        with dispatching(running, tmp_path, queue, "--until-empty", most=2) as dispatcher:
            assert await dispatcher.wait() == 0, dispatcher.tail()
        await until(lambda: not running.held, "no worker is held")
        await until(lambda: not running.workers, "all workers have gone")
        done = re.findall(r"rendered (frame-\d+)\s*$", running.logs(), re.MULTILINE)
        assert sorted(done) == [f"frame-{number}" for number in range(JOBS)], running.logs()[-3000:]
        assert JOBS <= len(running.sessions()) <= JOBS + 2  # a consumer that comes late finds nothing
        check_peak(running, 2)


def produce(head: Head, environment: dict[str, str]) -> None:
    program = [sys.executable if head.producer[0] == "python" else head.producer[0], *head.producer[1:]]
    run([*program, str(JOBS)], environment)


def run(command: list[str], environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=EXAMPLES, env={**os.environ, **environment}, check=True, timeout=60)


@pytest.mark.parametrize(
    "example",
    sorted(path.name for path in EXAMPLES.iterdir() if path.is_file()),
)
def test_an_example_fits_on_a_screen(example: str) -> None:
    lines = (EXAMPLES / example).read_text().splitlines()
    assert len(lines) <= LINES_MAX
    assert max(map(len, lines)) <= 120
