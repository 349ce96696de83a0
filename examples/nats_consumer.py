"""Takes one message at a time from NATS JetStream while the worker is held, and renews its lease beside the job:
python nats_consumer.py STREAM CONSUMER COMMAND...   (the command reads the message from its standard input).
"""

import asyncio
import os
import sys

import nats
import requests
from nats.js.api import ConsumerConfig

CONTROL = f"http://127.0.0.1:{os.environ.get('NULL_CONTROL_PORT', '18999')}"
LEASE_S = float(os.environ.get("LEASE_S", "60"))  # short, so that a dead worker's job is soon somebody else's
STREAM, CONSUMER, *COMMAND = sys.argv[1:]


def held(wait_s: int) -> bool:
    return requests.get(f"{CONTROL}/reservation?wait={wait_s}", timeout=90).json()["held"]


async def main() -> None:
    stream = (await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))).jetstream()
    jobs = await stream.pull_subscribe("", CONSUMER, STREAM, config=ConsumerConfig(ack_wait=LEASE_S))
    while True:
        try:
            messages = await jobs.fetch(1, timeout=1) if await asyncio.to_thread(held, 60) else []
        except nats.errors.TimeoutError:  # nothing waits
            await asyncio.to_thread(requests.post, f"{CONTROL}/release", timeout=10)
            continue
        for message in messages if held(0) else []:
            job = await asyncio.create_subprocess_exec(*COMMAND, stdin=asyncio.subprocess.PIPE)
            ended = asyncio.create_task(job.communicate(message.data))
            while not (await asyncio.wait({ended}, timeout=LEASE_S / 3))[0]:
                await message.in_progress() if held(0) else job.terminate()
            if job.returncode == 0:  # otherwise the message comes again when its lease ends
                await message.ack_sync()


asyncio.run(main())
