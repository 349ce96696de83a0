"""A procrastinate queue with a worker for each job: it is reserved, runs that one job, and is given back.

Type each in a terminal of its own, in this folder, with a PostgreSQL on this machine and `pip install procrastinate`;
before that, once: `createdb jobs && procrastinate --app procrastinate_app.app schema --apply`.

    nullworker engine --set endpoint.null-local.workergroup.0.consumer='python procrastinate_app.py'
    nullworker dispatch --endpoint null-local --queue 'procrastinate://localhost/jobs?queue=gpu&retries_stalled=true'
    python procrastinate_app.py 5
"""

import asyncio
import os
import signal
import sys
import time

from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ.get("DATABASE_URL", "postgresql://localhost/jobs")))


@app.task(name="render", queue="gpu")
def render(frame: str, seconds: float) -> None:  # in a thread, so that procrastinate's heartbeat goes on
    os.kill(os.getpid(), signal.SIGTERM)  # the worker ends after this job
    time.sleep(seconds)  # your job
    sys.stdout.write(f"rendered {frame}\n")


async def main() -> None:
    async with app.open_async():
        if "NULL_SESSION_ID" in os.environ:  # in a worker that is held
            for job in await app.job_manager.get_stalled_jobs(queue="gpu"):
                await app.job_manager.retry_job(job)  # whose worker is lost: nothing else does
            await app.run_worker_async(queues=["gpu"], concurrency=1, wait=False)  # ends if nothing is left to take
        else:
            await render.batch_defer_async(*({"frame": f"frame-{i}", "seconds": 1} for i in range(int(sys.argv[1]))))


if __name__ == "__main__":
    asyncio.run(main())
