"""The queues of an episode, for the world that fills them and the consumers that empty them: SQLite or Redis.

Both give a job to another consumer when it was not renewed for `LEASE_S`, as brokers do.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nullworker.queues import sqlite_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: A job is given to another consumer after so long without a renewal.
LEASE_S = 4.0
#: How long a call waits for a broker that is away.
AWAY_S = 45.0


class Jobs(Protocol):
    """What world and consumers need of a queue."""

    url: str

    def enqueue(self, payloads: Iterable[str]) -> None:
        """Adds jobs."""

    def claim(self, name: str) -> tuple[str, Any] | None:
        """Takes a job: its payload, and what `renew` and `finish` want."""

    def renew(self, job: Any) -> None:
        """Keeps a job from being given to another consumer."""

    def finish(self, job: Any) -> None:
        """Says that a job is done."""

    def give_back(self) -> None:
        """Gives the jobs of dead consumers to others."""

    def left(self) -> int:
        """How many jobs wait or are in flight."""


class SqliteJobs:
    """A table in a file."""

    def __init__(self, path: str) -> None:
        """Takes the file."""
        self._path = path
        self.url = sqlite_jobs.url(path)

    def enqueue(self, payloads: Iterable[str]) -> None:
        """Adds jobs."""
        sqlite_jobs.enqueue(self._path, payloads)

    def claim(self, name: str) -> tuple[str, Any] | None:
        """Takes the first."""
        job = sqlite_jobs.claim(self._path, name)
        return (job.payload, job) if job else None

    def renew(self, job: Any) -> None:
        """Sets its time to now."""
        sqlite_jobs.renew(self._path, job)

    def finish(self, job: Any) -> None:
        """Marks it as done."""
        sqlite_jobs.finish(self._path, job)

    def give_back(self) -> None:
        """Marks the jobs of dead consumers as waiting."""
        sqlite_jobs.requeue_stale(self._path, older_than_s=LEASE_S)

    def left(self) -> int:
        """Rows that are waiting or running."""
        counts = sqlite_jobs.counts(self._path)
        return counts["waiting"] + counts["running"]


class RedisJobs:
    """Two lists: what waits, and what is in flight. A key with a time to live for each job in flight is its lease."""

    _CLAIM = """local job = redis.call('lmove', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
    if job then redis.call('set', KEYS[2] .. ':' .. job, 'held', 'PX', ARGV[1]) end
    return job"""
    _GIVE_BACK = """for _, job in ipairs(redis.call('lrange', KEYS[2], 0, -1)) do
    if redis.call('exists', KEYS[2] .. ':' .. job) == 0 then
        redis.call('lrem', KEYS[2], 1, job)
        redis.call('rpush', KEYS[1], job)
    end end"""

    def __init__(self, address: str) -> None:
        """Takes ``PORT/KEY``."""
        port, _, self._key = address.partition("/")
        self._doing = f"{self._key}:doing"
        self._server: redis.Redis = redis.Redis(
            port=int(port), socket_timeout=2.0, retry=Retry(NoBackoff(), 0), decode_responses=True
        )
        self.url = f"redis-list://127.0.0.1:{port}/0?key={self._key}&processing={self._doing}"

    def enqueue(self, payloads: Iterable[str]) -> None:
        """Pushes jobs."""
        if pushed := list(payloads):
            _insist(lambda: self._server.rpush(self._key, *pushed))

    def claim(self, name: str) -> tuple[str, Any] | None:  # noqa: ARG002 - the lease is by the job
        """Moves the first to what is in flight."""
        lease_ms = int(LEASE_S * 1000)
        job = _insist(lambda: self._server.eval(self._CLAIM, 2, self._key, self._doing, str(lease_ms)))
        return (str(job), job) if job else None

    def renew(self, job: Any) -> None:
        """Makes its lease last from now on."""
        with contextlib.suppress(redis.RedisError):
            self._server.set(f"{self._doing}:{job}", "held", px=int(LEASE_S * 1000))

    def finish(self, job: Any) -> None:
        """Removes it from what is in flight."""
        _insist(lambda: self._server.lrem(self._doing, 1, job))

    def give_back(self) -> None:
        """Moves jobs without a lease to what waits."""
        with contextlib.suppress(redis.RedisError):
            self._server.eval(self._GIVE_BACK, 2, self._key, self._doing)

    def left(self) -> int:
        """What is in both lists; 1 where the server does not answer."""
        try:
            return int(self._server.llen(self._key)) + int(self._server.llen(self._doing))
        except redis.RedisError:
            return 1


def open_jobs(where: str) -> Jobs:
    """The queue of ``redis:PORT/KEY`` or ``sqlite:FILE``."""
    kind, _, address = where.partition(":")
    return RedisJobs(address) if kind == "redis" else SqliteJobs(address)


def work(jobs: Jobs, name: str, begun: Callable[[str], None], ended: Callable[[str], None]) -> None:
    """Does jobs until there is none. A payload ends with the seconds that it takes.

    Args:
        jobs: the queue.
        name: of the consumer.
        begun: is called with a payload when its job begins.
        ended: is called with it when it is done, before the queue is told.
    """
    while (taken := jobs.claim(name)) is not None:
        payload, job = taken
        over = threading.Event()
        renewing = threading.Thread(target=_renew, args=(jobs, job, over), daemon=True)
        renewing.start()
        begun(payload)
        time.sleep(float(payload.rpartition(":")[2]))
        ended(payload)
        over.set()
        jobs.finish(job)


def _renew(jobs: Jobs, job: Any, over: threading.Event) -> None:
    while not over.wait(LEASE_S / 8):
        jobs.renew(job)


def _insist(call: Callable[[], Any]) -> Any:
    """Calls until the broker answers; its last error after `AWAY_S`."""
    end = time.monotonic() + AWAY_S
    while True:
        try:
            return call()
        except redis.RedisError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
