"""RabbitMQ gives the jobs of dead consumers away again, and works through many jobs as the dispatcher is killed."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import aio_pika
import pytest

from tests.integration.dispatch.kit import check_peak, check_runs, check_the_last, dispatching, farm, mixed, python
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.integration.queues.rabbitmq_server import RabbitmqServer

numbers = itertools.count()


async def publish(rabbitmq: RabbitmqServer, jobs: Sequence[tuple[str, float]], queue: str = "") -> str:
    """Puts jobs into a queue, or one of their own; returns its name."""
    name = queue or f"dispatch-{next(numbers)}"
    connection = await aio_pika.connect(rabbitmq.amqp())
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=True)
        for job, seconds in jobs:
            body = f"{job} {seconds:g}".encode()
            await channel.default_exchange.publish(aio_pika.Message(body), name)
    return name


def consumer(rabbitmq: RabbitmqServer, name: str, most: int) -> list[str]:
    return python("amqp_consumer.py", rabbitmq.amqp(), name, str(most))


async def left(rabbitmq: RabbitmqServer, name: str) -> int:
    connection = await aio_pika.connect(rabbitmq.amqp())
    async with connection:
        queue = await (await connection.channel()).declare_queue(name, passive=True)
        return queue.declaration_result.message_count or 0


@pytest.mark.long
async def test_the_job_of_a_killed_consumer_is_done_by_another(rabbitmq: RabbitmqServer, tmp_path: Path) -> None:
    """It is delivered again; its worker is ill and replaced; the others do not notice."""
    jobs = [("a", 0.3), ("crash-b", 0.3), ("c", 0.3), ("d", 0.3)]
    name = await publish(rabbitmq, jobs)
    async with farm(tmp_path, consumer(rabbitmq, name, 1)) as running:
        with dispatching(
            running, tmp_path, rabbitmq.management(f"%2F/{name}?acks_late=true"), "--until-empty"
        ) as dispatcher:
            assert await dispatcher.wait() == 0, dispatcher.tail()
        runs = running.runs()
        assert [run.job for run in runs if run.ended_at is None] == ["crash-b"]
        check_runs([run for run in runs if run.ended_at is not None], [job for job, _ in jobs])
        assert running.server is not None
        failures = [d.reason for d in running.server.decisions.about() if "The consumer ended with" in d.reason]
        assert failures, "the engine was not told why a worker is ill"
        check_peak(running, 4)


@pytest.mark.long
async def test_where_in_flight_is_unknown_the_count_is_no_less_right(rabbitmq: RabbitmqServer, tmp_path: Path) -> None:
    """AMQP alone tells what waits, and no more: those who have taken a job count, and none is opened for it again."""
    jobs = [(f"job-{number}", 3.0) for number in range(3)]
    name = await publish(rabbitmq, jobs)
    async with farm(tmp_path, consumer(rabbitmq, name, 1), most=8) as running:
        url = f"{rabbitmq.amqp('%2F')}?queue={name}"
        with dispatching(running, tmp_path, url, "--until-empty", most=8) as dispatcher:
            assert await dispatcher.wait() == 0, dispatcher.tail()
        check_runs(running.runs(), [job for job, _ in jobs])
        assert len(running.sessions()) <= 4


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.long)])
async def test_many_jobs_while_the_dispatcher_is_killed_three_times(
    rabbitmq: RabbitmqServer, tmp_path: Path, count: int
) -> None:
    """All done, each once, on held workers, never more than four of them; and back to zero.

    Then there is one job more, alone, whose consumer is killed: at zero workers another one is brought for it.
    """
    jobs = mixed(count)
    name = await publish(rabbitmq, jobs)
    async with farm(tmp_path, consumer(rabbitmq, name, 40), most=6) as running:
        address = rabbitmq.management(f"%2F/{name}?acks_late=true")
        with dispatching(running, tmp_path, address, "--until-empty", "--poll", "0.5") as dispatcher:
            await dispatcher.kill_at(lambda: len(running.runs()), count // 10, count // 3, 2 * count // 3)
            assert await dispatcher.wait() == 0, dispatcher.tail()
            assert dispatcher.starts == 4
            await until(lambda: not running.held, "no worker is held")
            await until(lambda: not running.workers, "all workers have gone")
            check_runs(running.runs(), [job for job, _ in jobs])
            await publish(rabbitmq, [("crash-last", 0.3)], name)
            dispatcher.start()
            assert await dispatcher.wait() == 0, dispatcher.tail()
        check_the_last(running.runs(), "crash-last")
        await until(lambda: not running.workers, "all workers have gone again")
        check_peak(running, 4)
    assert await left(rabbitmq, name) == 0
