"""Does jobs of a SQLite queue until it is empty, and writes down when each began and ended.

Run as a program: ``python consumer.py QUEUE HISTORY``.
"""

from __future__ import annotations

import os
import sys
import threading
import time

from nullworker.queues import sqlite_jobs

RENEW_S = 0.5
#: A job is given to another consumer after so long without a renewal.
LEASE_S = 4.0


def main(queue: str, history: str) -> None:
    """Does jobs until there is none."""
    name = f"pid {os.getpid()}"
    while (job := sqlite_jobs.claim(queue, name)) is not None:
        over = threading.Event()
        renewing = threading.Thread(target=_renew, args=(queue, job, over), daemon=True)
        renewing.start()
        _note(history, "begin", job.payload)
        time.sleep(float(job.payload.partition(":")[2]))
        _note(history, "end", job.payload)
        over.set()
        sqlite_jobs.finish(queue, job)


def _renew(queue: str, job: sqlite_jobs.Job, over: threading.Event) -> None:
    while not over.wait(RENEW_S):
        sqlite_jobs.renew(queue, job)


def _note(history: str, what: str, payload: str) -> None:
    with open(history, "ab", buffering=0) as file:  # noqa: PTH123 - one write, which others' do not break up
        file.write(f"{what} {payload} {os.getpid()}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
