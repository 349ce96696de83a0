"""A Celery queue with a worker for each task: it is reserved, runs that one task, and is given back.

Type each in a terminal of its own, in this folder, with a Redis on this machine and `pip install 'celery[redis]'`:

    nullworker engine --set endpoint.null-local.workergroup.0.consumer='celery -A celery_tasks worker -P solo -Q gpu'
    nullworker dispatch --endpoint null-local --queue 'celery+redis://localhost/0?queue=gpu&acks_late=true'
    python celery_tasks.py 5
"""

import os
import signal
import sys
import threading
import time

from celery import Celery, signals

app = Celery(broker=os.environ.get("REDIS_URL", "redis://localhost/0"))
# A task is in flight until it is done, none is taken before that, and one whose worker is lost comes again.
app.conf.update(task_default_queue="gpu", task_acks_late=True, worker_prefetch_multiplier=1)
app.conf.broker_transport_options = {"visibility_timeout": 12 * 3600}  # longer than any task: Celery renews nothing


@app.task(name="render", ignore_result=True)
def render(frame: str, seconds: float) -> None:
    time.sleep(seconds)  # your job
    sys.stdout.write(f"rendered {frame}\n")


def end(wait_s: float = 0, **_: object) -> None:
    time.sleep(wait_s)
    os.kill(os.getpid(), signal.SIGTERM)  # a warm shutdown: a task that has begun is finished


if "NULL_SESSION_ID" in os.environ:  # in a worker that is held
    signals.task_postrun.connect(end)
    threading.Thread(target=end, args=[30], daemon=True).start()  # if there is nothing left to take
if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        render.delay(f"frame-{number}", 1)
