"""A consumer as a process of its own: takes one job with its broker's own client, prints its handle, and stays at it.

    python -m tests.integration.queues.take_one KIND ARGUMENT...

It works until it is killed, or until its standard input ends, as it does with the test that started it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HANG_LIMIT_S = 30


async def sqlite(path: str, lease_s: str) -> str:
    from nullworker.queues import sqlite_jobs

    job = sqlite_jobs.claim(Path(path), "consumer", lease_s=float(lease_s))
    assert job is not None
    return str(job.id)


async def redis_list(url: str) -> str:
    import redis.asyncio

    client: Any = redis.asyncio.Redis.from_url(url)
    return str((await client.lmove("jobs", "doing", "LEFT", "RIGHT")).decode())


async def redis_stream(url: str) -> str:
    import redis.asyncio

    client: Any = redis.asyncio.Redis.from_url(url)
    ((_, ((job, _fields),)),) = await client.xreadgroup("workers", "me", {"jobs": ">"}, count=1)
    return str(job.decode())


async def sqs(endpoint_url: str, region: str, name: str) -> str:
    import boto3

    client = boto3.client("sqs", endpoint_url=endpoint_url, region_name=region)
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    (message,) = client.receive_message(QueueUrl=url, MaxNumberOfMessages=1)["Messages"]
    return str(message["ReceiptHandle"])


async def nats(address: str, subject: str, durable: str, stream: str) -> str:
    import nats

    client = await nats.connect(address)
    subscription = await client.jetstream().pull_subscribe(subject, durable=durable, stream=stream)
    (message,) = await subscription.fetch(1, timeout=HANG_LIMIT_S)
    return str(message.metadata.num_delivered)


async def amqp(url: str, name: str) -> str:
    import aio_pika

    connection = await aio_pika.connect(url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1)
    queue = await channel.declare_queue(name, passive=True)
    message = await queue.get(timeout=HANG_LIMIT_S)
    assert message is not None
    return str(message.delivery_tag)


KINDS: dict[str, Callable[..., Awaitable[str]]] = {
    "sqlite": sqlite,
    "redis-list": redis_list,
    "redis-stream": redis_stream,
    "sqs": sqs,
    "nats": nats,
    "amqp": amqp,
}


async def work(kind: str, *arguments: str) -> None:
    print(await KINDS[kind](*arguments), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
