"""The example consumers for SQS and NATS, run by a real worker: no job while it is not held, none twice, none lost."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
from typing import TYPE_CHECKING

import nats

from nullworker.queues.registry import open_queue
from tests.integration import null_worker_kit as kit
from tests.integration.queues.moto_server import REGION, moto_server
from tests.integration.queues.nats_server import nats_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

EXAMPLES = kit.ROOT / "examples"
#: A job that outlives its lease, and writes down when it begins and ends.
LEASE_S = 2
JOB = 'read -r name; echo "$name" >> begun; sleep 4.5; echo "$name" >> done'


class Holder:
    """Reserves a worker as a client does."""

    def __init__(self, engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
        self._engine = engine
        self._worker = worker

    async def reserve(self) -> None:
        answer = await kit.create(self._worker, self._engine.auth_data(self._worker.url))
        assert answer.status == 201, answer

    async def released(self) -> None:
        """Waits until the worker tells that its reservation has ended."""
        await self._engine.wait_for(lambda report: report.path == "/delete_requests/")

    def lines(self, name: str) -> list[str]:
        note = self._worker.directory / name
        return sorted(note.read_text().split()) if note.exists() else []


@contextlib.asynccontextmanager
async def working(directory: Path, *command: str, **environment: str) -> AsyncIterator[Holder]:
    """A worker that is ready, and runs an example with `JOB` while it is held."""
    example, *arguments = command
    consumer = shlex.join([sys.executable, str(EXAMPLES / example), *arguments, "sh", "-c", JOB])
    variables = {"NULL_CONSUMER": consumer, "LEASE_S": str(LEASE_S), **environment}
    async with (
        kit.StubEngine().running() as engine,
        kit.worker(kit.worker_env(engine.url, **variables), directory) as worker,
    ):
        await engine.ready()
        yield Holder(engine, worker)


async def test_the_sqs_consumer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is given to no other consumer, though its job outlives the lease; then the reservation ends."""
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": REGION}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    with moto_server(tmp_path) as moto, moto.client() as client:
        url = client.create_queue(QueueName="renders", Attributes={"VisibilityTimeout": str(LEASE_S)})["QueueUrl"]
        client.send_message(QueueUrl=url, MessageBody="job\n")
        keys["AWS_ENDPOINT_URL"] = moto.endpoint_url
        async with (
            working(tmp_path, "sqs_consumer.py", url, **keys) as holder,
            await open_queue(moto.url("renders")) as queue,
        ):
            assert ((await queue.depth()).waiting, holder.lines("begun")) == (1, [])
            await holder.reserve()
            await kit.until(lambda: holder.lines("begun"))
            while not holder.lines("done"):
                rival = await asyncio.to_thread(client.receive_message, QueueUrl=url, WaitTimeSeconds=0)
                assert "Messages" not in rival or holder.lines("done"), "the lease was not renewed"
                await asyncio.sleep(0.05)
            await holder.released()
            assert holder.lines("begun") == holder.lines("done") == ["job"]
            depth = await queue.depth()
            assert (depth.waiting, depth.in_flight) == (0, 0)


async def test_the_nats_consumer(tmp_path: Path) -> None:
    """The message is given to no other consumer, though its job outlives the lease; then the reservation ends."""
    with nats_server(tmp_path) as server:
        client = await nats.connect(server.address)
        await client.jetstream().add_stream(name="JOBS", subjects=["jobs.*"])
        await client.jetstream().publish("jobs.render", b"job\n")
        async with (
            working(tmp_path, "nats_consumer.py", "JOBS", "workers", NATS_URL=server.address) as holder,
            await open_queue(server.url("stream=JOBS&consumer=workers")) as queue,
        ):
            assert ((await queue.depth()).waiting, holder.lines("begun")) == (1, [])
            await holder.reserve()
            await kit.until(lambda: holder.lines("begun"))
            rival = await client.jetstream().pull_subscribe_bind("workers", "JOBS")
            while not holder.lines("done"):
                with contextlib.suppress(nats.errors.TimeoutError):
                    await rival.fetch(1, timeout=0.1)
                    assert holder.lines("done"), "the lease was not renewed"
            await holder.released()
            assert holder.lines("begun") == holder.lines("done") == ["job"]
            depth = await queue.depth()
            assert (depth.waiting, depth.in_flight, depth.redelivered) == (0, 0, 0)
        await client.close()
