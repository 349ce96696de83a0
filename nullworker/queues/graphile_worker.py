"""Jobs of graphile-worker, the Node task queue in PostgreSQL.

    graphile-worker://user:password@host:5432/database?task=render
    graphile-worker://user:password@host:5432/database?queue=per-user&schema=graphile_worker

``forbidden_flags=a,b`` leaves out the jobs with one of these flags, as workers with ``forbiddenFlags`` do.
``task=`` and ``queue=`` choose the jobs of one task or of one named queue; without them all jobs count. Jobs of a
named queue run one at a time: while none of them runs one is waiting, and the others count as delayed. What is read
is the view ``jobs``, which graphile-worker makes for this purpose.
"""

from __future__ import annotations

from typing import ClassVar

from nullworker.queues._postgres import PostgresQueue, literal, missing_tables, quoted
from nullworker.queues.base import Queue, QueueInfo, QueueWarning

#: graphile-worker gives a job to another worker when it has been locked for this long; it has no heartbeat.
LOCK_S = 4 * 3600.0
#: A job that is locked for longer than this is worth a warning: its worker may be dead.
OLD_RUNNING_S = 3600.0
#: Stands between task and queue in what is asked for; neither may hold it.
SEPARATOR = "\x1f"

# One pass over the table for all that is asked for, since there is no index by task. A job whose lock has run out is
# abandoned: it is a worker's business to take it back, and from zero there is no worker.
DEPTH_QUERY = """
WITH jobs AS MATERIALIZED (
    SELECT task_identifier, queue_name,
        count(*) FILTER (WHERE locked_at IS NULL AND may_run AND run_at <= now()) AS due,
        min(run_at) FILTER (WHERE locked_at IS NULL AND may_run AND run_at <= now()) AS due_since,
        count(*) FILTER (WHERE locked_at IS NULL AND may_run AND run_at > now()) AS later,
        min(run_at) FILTER (WHERE locked_at IS NULL AND may_run AND run_at > now()) AS next_due_at,
        count(*) FILTER (WHERE locked_at >= now() - {lock_s} * interval '1 second') AS locked,
        count(*) FILTER (WHERE locked_at < now() - {lock_s} * interval '1 second') AS abandoned,
        count(*) FILTER (WHERE locked_at < now() - {lock_s} * interval '1 second' AND may_run) AS again
    FROM (SELECT *, attempts < max_attempts AND {may_run} AS may_run FROM {schema}.jobs) jobs
    GROUP BY task_identifier, queue_name
), busy AS (
    SELECT queue_name FROM jobs WHERE locked > 0 AND queue_name IS NOT NULL GROUP BY queue_name
), counted AS (
    SELECT asked.name,
        coalesce(sum(due) FILTER (WHERE jobs.queue_name IS NULL), 0) + count(DISTINCT jobs.queue_name)
            FILTER (WHERE due > 0 AND jobs.queue_name NOT IN (SELECT queue_name FROM busy)) AS waiting,
        coalesce(sum(again) FILTER (WHERE jobs.queue_name IS NULL), 0) + count(DISTINCT jobs.queue_name)
            FILTER (WHERE again > 0 AND due = 0 AND jobs.queue_name NOT IN (SELECT queue_name FROM busy)) AS left_over,
        coalesce(sum(due + later + again), 0) AS jobs, sum(locked) AS locked, sum(abandoned) AS abandoned,
        min(due_since) AS due_since, min(next_due_at) AS next_due_at
    FROM unnest(%(names)s::text[]) AS asked(name) LEFT JOIN jobs
        ON split_part(asked.name, chr(31), 1) IN ('', jobs.task_identifier)
        AND (split_part(asked.name, chr(31), 2) = '' OR split_part(asked.name, chr(31), 2) = jobs.queue_name)
    GROUP BY asked.name
)
SELECT name, waiting::int, coalesce(locked, 0)::int AS in_flight, left_over::int AS abandoned,
    (jobs - waiting - left_over)::int AS delayed,
    extract(epoch FROM now() - due_since)::float8 AS oldest_age_s,
    extract(epoch FROM next_due_at - now())::float8 AS next_due_in_s,
    coalesce(abandoned, 0)::int AS redelivered
FROM counted
"""

INFO_QUERY = """
WITH jobs AS (
    SELECT queue_name, locked_at, locked_by, flags, {may_run} AND attempts < max_attempts AS may_run FROM {schema}.jobs
    WHERE %(task)s IN ('', task_identifier) AND (%(queue)s = '' OR queue_name = %(queue)s)
)
SELECT current_setting('server_version') AS server,
    count(*) FILTER (WHERE queue_name IS NOT NULL AND locked_at IS NULL AND may_run) AS queued,
    count(DISTINCT queue_name) FILTER (WHERE locked_at IS NULL AND may_run) AS queues,
    count(*) FILTER (WHERE locked_at < now() - {old_s} * interval '1 second') AS old,
    count(*) FILTER (WHERE locked_at IS NULL AND may_run AND flags IS NOT NULL) AS flagged,
    coalesce(max(held), 0) AS held
FROM jobs LEFT JOIN (
    SELECT locked_by, count(*) AS held FROM jobs WHERE locked_at IS NOT NULL GROUP BY locked_by
) holders USING (locked_by)
"""


class GraphileWorkerQueue(PostgresQueue):
    """Reads the jobs of graphile-worker; those whose lock has run out are abandoned."""

    PARAMETERS: ClassVar[frozenset[str]] = frozenset(("task", "queue", "schema", "forbidden_flags"))
    UPGRADE: ClassVar[str] = "upgrade graphile-worker to 0.16 or later"

    @property
    def _name(self) -> str:
        return SEPARATOR.join(
            self._url.text(name) if name in self._url.parameters else "" for name in ("task", "queue")
        )

    @property
    def _query(self) -> str:
        return self._sql(DEPTH_QUERY)

    @property
    def _jobs_table(self) -> str:
        return self._sql("{schema}.jobs")

    def _sql(self, query: str) -> str:
        schema = quoted(self._url.text("schema", "graphile_worker"))
        return query.format(schema=schema, lock_s=LOCK_S, old_s=OLD_RUNNING_S, may_run=self._may_run)

    @property
    def _may_run(self) -> str:
        """A condition in SQL: the job has no flag that workers forbid."""
        if "forbidden_flags" not in self._url.parameters:
            return "true"
        flags = ", ".join(literal(flag) for flag in self._url.text("forbidden_flags").split(","))
        return f"(flags ?| ARRAY[{flags}]) IS NOT TRUE"

    async def _find_channel(self) -> str | None:
        return "jobs:insert"

    async def info(self) -> QueueInfo:
        """Warns of named queues, of jobs that may be abandoned, and of workers that take several jobs.

        Raises:
            QueueError: as for `depth`.
        """
        await self.depth()
        task, _, queue = self._name.partition(SEPARATOR)
        rows = await self._database.fetch(self._sql(INFO_QUERY), {"task": task, "queue": queue})
        server = f" (server {rows[0]['server']})" if rows else ""
        return self._completed(
            QueueInfo(
                kind="graphile-worker",
                name="/".join(part for part in (task, queue) if part) or "all tasks",
                broker=self._database.shown + server,
                lease_s=LOCK_S,
                pushes=True,
                warnings=tuple(
                    [missing_tables(f"The view {self._jobs_table}")] if rows is None else _warnings(rows[0])
                ),
            )
        )


def _warnings(found: dict[str, int]) -> list[QueueWarning]:
    warnings = []
    if found["queued"]:
        warnings.append(
            QueueWarning(
                "serialised",
                f"{found['queued']} waiting job(s) are in {found['queues']} named queue(s): one job of a named queue "
                "runs at a time, so that more workers than named queues would idle.",
            )
        )
    if found["old"]:
        warnings.append(
            QueueWarning(
                "old-running",
                f"{found['old']} job(s) have been locked for over {OLD_RUNNING_S / 3600:g} h: if their workers are "
                "dead, call forceUnlockWorkers, for a reservation stays open for each until 4 h are over.",
            )
        )
    if found["flagged"]:
        warnings.append(
            QueueWarning(
                "flags",
                f"{found['flagged']} waiting job(s) have flags, and workers skip those in their forbiddenFlags: add "
                "&forbidden_flags=a,b to the URL with the flags that no worker takes.",
            )
        )
    if found["held"] > 1:
        warnings.append(
            QueueWarning(
                "prefetch",
                f"A worker holds {found['held']} jobs at once, so that more are in flight than there are workers: set "
                "its concurrentJobs to 1, and no localQueue.",
            )
        )
    return warnings


_: type[Queue] = GraphileWorkerQueue
