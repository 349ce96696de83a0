"""Takes jobs of a RabbitMQ queue until there is none: ``python amqp_consumer.py URL QUEUE [JOBS_MAX]``.

A message is a job's name and how long it takes, in seconds. At a job whose name begins with ``crash`` it kills itself,
the first time that the job is delivered.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import aio_pika

from tests.integration.dispatch.notes import note


async def main(url: str, name: str, most: int) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(name, passive=True)
        for _ in range(most):
            message = await queue.get(fail=False)
            if message is None:
                return
            job, seconds = message.body.decode().split()
            note("begin", job)
            if job.startswith("crash") and not message.redelivered:
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(float(seconds))
            note("end", job)
            await message.ack()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int((sys.argv[3:] or ["1000000"])[0])))
