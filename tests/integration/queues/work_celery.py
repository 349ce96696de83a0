"""The Celery application of the tests; its settings are in the environment, for producers and workers alike."""

from __future__ import annotations

import os
from typing import Any

import celery

from tests.integration.queues import work

URL_VARIABLE = "TEST_CELERY_URL"
LATE_VARIABLE = "TEST_CELERY_LATE"


def make_app(url: str, *, acks_late: bool) -> Any:
    """An application whose workers are set as the adapter's warnings ask, or as Celery's defaults are."""
    app = celery.Celery("tests", broker=url, set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=False, worker_hijack_root_logger=False)
    if acks_late:
        app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1)
    app.task(name="hold", ignore_result=True)(work.hold)
    return app


if URL_VARIABLE in os.environ:  # in a worker's process
    app = make_app(os.environ[URL_VARIABLE], acks_late=os.environ[LATE_VARIABLE] == "1")
