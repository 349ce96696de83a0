"""A Celery worker that does one task and ends: ``celery_consumer.py URL VISIBILITY_TIMEOUT``."""

from __future__ import annotations

import os
import signal
import sys

from celery import signals

from tests.integration.dispatch.notes import work
from tests.integration.queues.work_celery import make_app


def end(**_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)  # a warm shutdown


def crash() -> None:
    work("crash", 0.1)


def main(url: str, visibility_timeout_s: float) -> None:
    app = make_app(url, acks_late=True)
    app.conf.broker_transport_options = {"visibility_timeout": visibility_timeout_s}
    app.task(name="crash", ignore_result=True)(crash)
    signals.task_postrun.connect(end)
    quiet = ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    app.worker_main(["worker", "-P", "solo", "-Q", "gpu", "-l", "warning", *quiet])


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
