"""A queue of pg-boss, the Node job queue in PostgreSQL.

    pgboss://user:password@host:5432/database?queue=renders&schema=pgboss

Queues with a policy that lets one job of a key run at a time (``singleton``, ``stately``, ``key_strict_fifo``) have
one job waiting for each key that is free; the others count as delayed. A job that is active past its time limit is
no longer in flight; it counts as waiting if pg-boss will try it again.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from nullworker.queues._postgres import PostgresQueue, missing_tables, quoted
from nullworker.queues.base import Queue, QueueInfo, QueueWarning

#: Jobs on a GPU run for minutes or hours; a time limit shorter than this needs a word in --check.
LONG_JOB_S = 3600.0
#: Policies that serialise by key.
KEYED = "('singleton', 'stately', 'key_strict_fifo')"

# The states are listed as in pg-boss's own index on what is live. Jobs are counted by slot first: where the policy
# serialises, a slot is a key that lets one job run; elsewhere a queue is one slot without a limit.
DEPTH_QUERY = """
WITH slots AS MATERIALIZED (
    SELECT job.name, queue.policy IN {keyed} AS is_keyed,
        CASE WHEN queue.policy IN {keyed} THEN coalesce(job.singleton_key, '') END AS slot,
        count(*) FILTER (WHERE state < 'active' AND NOT blocked AND start_after <= now()) AS due,
        min(start_after) FILTER (WHERE state < 'active' AND NOT blocked AND start_after <= now()) AS due_since,
        count(*) FILTER (WHERE state < 'active' AND (blocked OR start_after > now())) AS later,
        min(start_after) FILTER (WHERE state < 'active' AND NOT blocked AND start_after > now()) AS next_due_at,
        count(*) FILTER (WHERE state = 'active' AND NOT {expired}) AS active,
        count(*) FILTER (WHERE state = 'active' AND {expired}) AS expired,
        count(*) FILTER (WHERE state = 'active' AND {expired} AND job.retry_count < job.retry_limit) AS again,
        queue.policy = 'key_strict_fifo' AND bool_or(
            state = 'failed' OR (state = 'retry' AND (blocked OR start_after > now()))
            OR (state = 'active' AND {expired} AND job.retry_count >= job.retry_limit)
        ) AS is_stuck
    FROM {schema}.job JOIN {schema}.queue ON queue.name = job.name
    WHERE job.name = ANY(%(names)s) AND state IN ('created', 'retry', 'active', 'failed')
        AND (state <> 'failed' OR queue.policy = 'key_strict_fifo')
    GROUP BY job.name, queue.policy, slot
), runnable AS (
    SELECT *, CASE WHEN NOT is_keyed THEN due WHEN due > 0 AND active = 0 AND NOT is_stuck THEN 1 ELSE 0 END AS waiting,
        CASE WHEN NOT is_keyed THEN again
            WHEN again > 0 AND due = 0 AND active = 0 AND NOT is_stuck THEN 1 ELSE 0 END AS abandoned
    FROM slots
)
SELECT asked.name, coalesce(sum(waiting), 0)::int AS waiting, coalesce(sum(active), 0)::int AS in_flight,
    coalesce(sum(due + later + again - waiting - abandoned), 0)::int AS delayed,
    extract(epoch FROM now() - min(due_since))::float8 AS oldest_age_s,
    extract(epoch FROM min(next_due_at) - now())::float8 AS next_due_in_s,
    coalesce(sum(expired), 0)::int AS redelivered, coalesce(sum(abandoned), 0)::int AS abandoned
FROM unnest(%(names)s::text[]) AS asked(name) LEFT JOIN runnable ON runnable.name = asked.name
GROUP BY asked.name
"""

EXPIRED = """coalesce(
    started_on + job.expire_seconds * interval '1 second' < now()
    OR heartbeat_on + job.heartbeat_seconds * interval '1 second' < now(), false)"""

INFO_QUERY = """
SELECT current_setting('server_version') AS server, version.version,
    queue.name, queue.policy, queue.notify, queue.expire_seconds, queue.heartbeat_seconds,
    EXISTS (
        SELECT FROM {schema}.job WHERE job.name = %(name)s AND state < 'active' AND group_id IS NOT NULL
    ) AS has_groups,
    (SELECT count(*) FROM {schema}.job WHERE job.name = %(name)s AND state = 'active' AND {expired}) AS expired
FROM {schema}.version LEFT JOIN {schema}.queue ON queue.name = %(name)s
"""


class PgBossQueue(PostgresQueue):
    """Reads a pg-boss queue; jobs past their time limit are abandoned, where they may be tried again."""

    PARAMETERS: ClassVar[frozenset[str]] = frozenset(("queue", "schema"))
    UPGRADE: ClassVar[str] = "upgrade pg-boss to 12.22 or later"

    @property
    def _name(self) -> str:
        return self._url.text("queue")

    @property
    def _query(self) -> str:
        return self._sql(DEPTH_QUERY)

    @property
    def _jobs_table(self) -> str:
        return self._sql("{schema}.job")

    @property
    def _schema(self) -> str:
        return self._url.text("schema", "pgboss")

    def _sql(self, query: str) -> str:
        return query.format(schema=quoted(self._schema), keyed=KEYED, expired=EXPIRED)

    async def _find_channel(self) -> str | None:
        # pg-boss notifies for queues that are made with ``notify``; all queues of a schema share a channel.
        return "pgboss_" + hashlib.sha224(self._schema.encode()).hexdigest()[:24]

    async def info(self) -> QueueInfo:
        """Warns of time limits, of policies and groups that serialise, and of jobs past their limit.

        Raises:
            QueueError: as for `depth`.
        """
        await self.depth()
        rows = await self._database.fetch(self._sql(INFO_QUERY), {"name": self._name})
        found = rows[0] if rows else {}
        broker = (
            f"{self._database.shown} (server {found['server']}, pg-boss schema {found['version']})" if found else ""
        )
        exists = found.get("name") is not None
        return self._completed(
            QueueInfo(
                kind="pgboss",
                name=self._name,
                broker=broker or self._database.shown,
                lease_s=_lease_s(found) if exists else None,
                pushes=bool(found.get("notify")),
                warnings=tuple(_warnings(found) if exists else [missing_tables(f"The queue {self._name} of pg-boss")]),
            )
        )


def _lease_s(found: dict[str, Any]) -> float:
    return float(min(found["expire_seconds"], found["heartbeat_seconds"] or found["expire_seconds"]))


def _warnings(found: dict[str, Any]) -> list[QueueWarning]:
    warnings = []
    if found["expire_seconds"] < LONG_JOB_S:
        warnings.append(
            QueueWarning(
                "short-lease",
                f"A job that runs longer than {found['expire_seconds']} s (expireInSeconds) is failed and tried again "
                "while it still runs: raise that limit; a heartbeat does not extend it.",
            )
        )
    if found["policy"] in {"singleton", "stately", "key_strict_fifo"}:
        warnings.append(
            QueueWarning(
                "serialised",
                f"The policy is {found['policy']}: one job of a key runs at a time, so that more workers than keys "
                "would idle.",
            )
        )
    if found["has_groups"]:
        warnings.append(
            QueueWarning(
                "groups",
                "Jobs have groups: if workers limit what a group runs at a time (groupConcurrency), more wait than can "
                "run, for the limit is not in the database; set --max accordingly.",
            )
        )
    if found["expired"]:
        warnings.append(
            QueueWarning(
                "stalled",
                f"{found['expired']} active job(s) are past their time limit: their workers died or are slow, and some "
                "instance of pg-boss with supervise has to fail or retry them.",
            )
        )
    return warnings


_: type[Queue] = PgBossQueue
