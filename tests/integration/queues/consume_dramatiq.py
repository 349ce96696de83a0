"""A dramatiq worker that takes one message, and ends after it: ``python consume_dramatiq.py URL QUEUE``.

Its environment should say dramatiq_queue_prefetch=1, as the queue's warning asks of a user.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.integration.queues import work


class EndAfterOne(dramatiq.Middleware):
    def after_ack(self, _broker: Any, message: Any) -> None:
        if not message.queue_name.endswith(".DQ"):
            os._exit(0)


def main() -> None:
    url, queue = sys.argv[1:]
    make: Any = RedisBroker  # without types
    broker = make(url=url, middleware=[EndAfterOne()], maintenance_chance=1_000_000)  # of a million: each time
    dramatiq.actor(broker=broker, queue_name=queue, actor_name="hold")(work.hold)
    dramatiq.Worker(broker, queues={queue, f"{queue}.DQ"}, worker_threads=1, worker_timeout=50).start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
