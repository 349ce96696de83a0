"""A queue of procrastinate, the Python task queue in PostgreSQL.

    procrastinate://user:password@host:5432/database?queue=default

``schema=`` where its tables are not on the user's search path; ``stalled_s=`` where workers run with another
``stalled_worker_timeout`` than procrastinate's own 30 s. procrastinate never runs a stalled job again by itself;
``retries_stalled=true`` says that each consumer does so when it starts, and then such a job calls for one. Jobs with a
lock run one at a time, in the order of their priority and id: of each lock the first job is waiting, and the others
count as delayed until it is done.
"""

from __future__ import annotations

from typing import ClassVar

from nullworker.queues._postgres import PostgresQueue, missing_tables, quoted
from nullworker.queues.base import Queue, QueueInfo, QueueWarning

#: procrastinate's own default of ``stalled_worker_timeout``.
STALLED_S = 30.0

# Finished jobs stay in the table, so each part of this begins with an index on what is live. The jobs of a queue are
# counted by lock first: without locks that leaves one row a queue, and `heads` reads nothing.
DEPTH_QUERY = """
WITH live AS MATERIALIZED (
    SELECT queue_name, lock, count(*) AS jobs,
        count(*) FILTER (WHERE scheduled_at > now()) AS later,
        min(scheduled_at) FILTER (WHERE scheduled_at > now()) AS next_due_at
    FROM {schema}procrastinate_jobs
    WHERE status = 'todo' AND queue_name = ANY(%(names)s)
    GROUP BY queue_name, lock
), queues AS (
    SELECT queue_name, sum(jobs) AS jobs, sum(jobs - later) FILTER (WHERE lock IS NULL) AS unlocked,
        min(next_due_at) AS next_due_at
    FROM live
    GROUP BY queue_name
), heads AS (
    SELECT queue_name, count(*) AS runnable
    FROM (
        SELECT DISTINCT ON (job.lock) job.queue_name, job.scheduled_at
        FROM {schema}procrastinate_jobs job
        WHERE job.status = 'todo' AND job.lock IN (SELECT lock FROM live WHERE lock IS NOT NULL)
            AND NOT EXISTS (
                SELECT FROM {schema}procrastinate_jobs holder WHERE holder.status = 'doing' AND holder.lock = job.lock
            )
        ORDER BY job.lock, job.priority DESC, job.id
    ) head
    WHERE (scheduled_at > now()) IS NOT TRUE
    GROUP BY queue_name
), doing AS (
    SELECT job.queue_name, count(*) AS jobs,
        count(*) FILTER (WHERE worker.last_heartbeat >= now() - {stalled_s} * interval '1 second') AS alive
    FROM {schema}procrastinate_jobs job LEFT JOIN {schema}procrastinate_workers worker ON worker.id = job.worker_id
    WHERE job.status = 'doing' AND job.queue_name = ANY(%(names)s)
    GROUP BY job.queue_name
)
SELECT asked.name,
    (coalesce(queues.unlocked, 0) + coalesce(heads.runnable, 0))::int AS waiting,
    coalesce(doing.alive, 0)::int AS in_flight,
    (coalesce(queues.jobs, 0) - coalesce(queues.unlocked, 0) - coalesce(heads.runnable, 0))::int AS delayed,
    extract(epoch FROM queues.next_due_at - now())::float8 AS next_due_in_s,
    (coalesce(doing.jobs, 0) - coalesce(doing.alive, 0))::int AS redelivered,
    CASE WHEN {retries} THEN (coalesce(doing.jobs, 0) - coalesce(doing.alive, 0))::int ELSE 0 END AS abandoned
FROM unnest(%(names)s::text[]) AS asked(name)
LEFT JOIN queues ON queues.queue_name = asked.name
LEFT JOIN heads ON heads.queue_name = asked.name
LEFT JOIN doing ON doing.queue_name = asked.name
"""

INFO_QUERY = """
SELECT count(*) AS jobs, count(DISTINCT lock) AS locks, current_setting('server_version') AS server
FROM {schema}procrastinate_jobs
WHERE status = 'todo' AND queue_name = %(name)s AND lock IS NOT NULL
"""


class ProcrastinateQueue(PostgresQueue):
    """Reads a procrastinate queue; stalled jobs are not in flight, and abandoned if consumers retry them."""

    PARAMETERS: ClassVar[frozenset[str]] = frozenset(("queue", "schema", "stalled_s", "retries_stalled"))
    UPGRADE: ClassVar[str] = "apply procrastinate's migrations up to 3.1 or later"

    @property
    def _name(self) -> str:
        return self._url.text("queue")

    @property
    def _query(self) -> str:
        return self._sql(DEPTH_QUERY)

    @property
    def _jobs_table(self) -> str:
        return self._sql("{schema}procrastinate_jobs")

    def _sql(self, query: str) -> str:
        schema = self._url.parameters.get("schema")
        prefix = f"{quoted(schema)}." if schema else ""
        stalled_s = self._url.seconds("stalled_s", STALLED_S)
        return query.format(schema=prefix, stalled_s=stalled_s, retries=self._retries_stalled)

    @property
    def _retries_stalled(self) -> bool:
        return self._url.flag("retries_stalled")

    async def _find_channel(self) -> str | None:
        return f"procrastinate_queue_v1#{self._name}"

    async def info(self) -> QueueInfo:
        """Warns of locks, of stalled jobs, and of tables that are not there.

        Raises:
            QueueError: as for `depth`.
        """
        depth = await self.depth()
        rows = await self._database.fetch(self._sql(INFO_QUERY), {"name": self._name})
        warnings = []
        if rows is None:
            warnings.append(missing_tables("The table procrastinate_jobs (procrastinate schema --apply)"))
        elif rows[0]["locks"]:
            warnings.append(
                QueueWarning(
                    "serialised",
                    f"{rows[0]['jobs']} waiting job(s) share {rows[0]['locks']} lock(s): one job of a lock runs at a "
                    "time, so that more workers than locks would idle.",
                )
            )
        if depth.redelivered:
            warnings.append(
                QueueWarning(
                    "stalled",
                    f"{depth.redelivered} job(s) are held by workers without a heartbeat, and procrastinate does not "
                    + (
                        "run them again by itself: they wait for a consumer that does so when it starts."
                        if self._retries_stalled
                        else "run them again by itself: have each consumer call job_manager.get_stalled_jobs and "
                        "retry_job when it starts, and add &retries_stalled=true to the URL."
                    ),
                )
            )
        return self._completed(
            QueueInfo(
                kind="procrastinate",
                name=self._name,
                broker=self._database.shown + (f" (server {rows[0]['server']})" if rows else ""),
                pushes=True,
                warnings=tuple(warnings),
            )
        )


_: type[Queue] = ProcrastinateQueue
