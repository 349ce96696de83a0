"""An RQ queue with a worker for each job: it is reserved, runs that one job, and is given back.

Type each in a terminal of its own, in this folder, with a Redis on this machine and `pip install rq`:

    nullworker engine --set endpoint.null-local.workergroup.0.consumer='rq worker -c rq_jobs --burst --max-jobs 1 gpu'
    nullworker dispatch --endpoint null-local --queue 'rq://localhost/0?queue=gpu'
    python rq_jobs.py 5

RQ renews its hold on a job from a process beside the job's, however long that is.
"""

import os
import sys
import time

from redis import Redis
from rq import Queue, Retry

#: The worker's name, which rq reads here: the dispatcher tells by it which job a reservation is for.
NAME = os.environ.get("NULL_SESSION_ID")


def render(frame: str, seconds: float) -> None:
    time.sleep(seconds)  # your job
    sys.stdout.write(f"rendered {frame}\n")


if __name__ == "__main__":
    queue = Queue("gpu", connection=Redis.from_url(os.environ.get("RQ_REDIS_URL", "redis://localhost/0")))
    for number in range(int(sys.argv[1])):
        # By its name, for a worker imports it. One whose worker is lost comes again; no job ends because it is long.
        queue.enqueue("rq_jobs.render", f"frame-{number}", 1, job_timeout=-1, retry=Retry(max=2))
