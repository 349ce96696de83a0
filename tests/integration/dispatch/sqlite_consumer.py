"""Takes jobs of an SQLite queue: ``python sqlite_consumer.py FILE [JOBS_MAX|forever]``; without, until there is none.

A job's payload is its name and how long it takes, in seconds: ``job-7 0.25``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
import urllib.request

from nullworker.queues import sqlite_jobs
from tests.integration.dispatch.notes import work


def main(file: str, most: str) -> None:
    for number in itertools.count():
        if most not in ("", "forever") and number >= int(most):
            return
        job = sqlite_jobs.claim(file, worker=os.environ["NULL_SESSION_ID"])
        if job is None and most == "forever":
            time.sleep(0.1)
            continue
        if job is None:
            return
        name, seconds = job.payload.split()
        tell(name)
        work(name, float(seconds))
        sqlite_jobs.finish(file, job)


def tell(job: str) -> None:
    """Tells the worker which job it is, for the engine's page and its costs."""
    body = json.dumps({"job": job}).encode()
    with contextlib.suppress(OSError, KeyError):
        urllib.request.urlopen(f"{os.environ['NULL_CONTROL_URL']}/job", body, 5).close()


if __name__ == "__main__":
    main(sys.argv[1], "".join(sys.argv[2:]))
