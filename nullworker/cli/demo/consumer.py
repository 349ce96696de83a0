"""The demo's consumer: takes one job, does it, and ends, which gives the worker back.

    python -m nullworker.cli.demo.consumer              draws a tile of the Mandelbrot set
    python -m nullworker.cli.demo.consumer -- COMMAND   runs COMMAND with the job in the variable JOB

The Null PyWorker starts it when a reservation opens (NULL_CONSUMER). DEMO_QUEUE names the queue's file, DEMO_TILES the
folder for the tiles.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nullworker.queues import sqlite_jobs

#: What a user's own command prints is in a file for each job, which ends with how the command failed, if it did.
OUTPUT, FAILED = "output-", "[exit code "


def run(command: list[str], payload: str, output: Path) -> int:
    """Runs a command for a job, with what it prints in a file; returns its exit code."""
    with output.open("wb") as file:
        environment = {**os.environ, "JOB": payload}
        done = subprocess.run(command, env=environment, check=False, stdout=file, stderr=subprocess.STDOUT)
        if done.returncode:
            file.write(f"{FAILED}{done.returncode}]\n".encode())
    return done.returncode


def main(command: list[str]) -> int:
    """Does one job; returns the exit code, 0 also when there was none to do."""
    queue = os.environ["DEMO_QUEUE"]
    job = sqlite_jobs.claim(queue, worker=os.environ.get("NULL_SESSION_ID", "unknown"))
    if job is None:
        return 0
    if command:
        code = run(command, job.payload, Path(os.environ["DEMO_TILES"]) / f"{OUTPUT}{job.payload}.txt")
    else:
        from nullworker.cli.demo.mandelbrot import draw_tile

        draw_tile(int(job.payload), Path(os.environ["DEMO_TILES"]))
        code = 0
    if code:
        sqlite_jobs.fail(queue, job, f"exit code {code}")
    else:
        sqlite_jobs.finish(queue, job)
    return 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(arguments[1:] if arguments[:1] == ["--"] else arguments))
