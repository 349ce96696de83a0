"""Does jobs of a queue until it is empty, and writes down when each began and ended.

Run as a program: ``python consumer.py QUEUE NOTES``.
"""

from __future__ import annotations

import os
import sys

from tools.chaos.jobs import open_jobs, work


def main(queue: str, notes: str) -> None:
    """Does jobs until there is none."""

    def note(what: str, payload: str) -> None:
        with open(notes, "ab", buffering=0) as file:  # noqa: PTH123 - one write, which others' do not break up
            file.write(f"{what} {payload} {os.getpid()}\n".encode())

    work(
        open_jobs(queue),
        f"pid {os.getpid()}",
        lambda payload: note("begin", payload),
        lambda payload: note("end", payload),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
