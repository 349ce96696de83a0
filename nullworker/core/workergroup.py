"""A workergroup and its record of failures: when it may be tried again, and with how many workers at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.core import limits

if TYPE_CHECKING:
    from nullworker.core.parameters import WorkergroupSpec


@dataclass(slots=True, eq=False)
class Workergroup:
    """What the engine knows of one workergroup; ``workers`` and ``booting`` are kept by its endpoint."""

    spec: WorkergroupSpec
    deleted: bool = False
    workers: int = 0
    booting: int = 0
    most_sessions_seen: int = 0  # that one of its workers held at once

    failures: int = 0  # in a row, without a worker proven since
    failed_at: float = float("-inf")  # the last failure that counted
    #: The first failure that counted since it was last known to be able: one of its workers got ready.
    unable_since: float | None = None
    next_try_at: float = 0.0
    last_error: str = ""
    is_short: bool = False  # the last error was that its fleet has no place
    ready_since: float | None = None  # the first ready of a worker since the last failure

    def changed(self, spec: WorkergroupSpec) -> None:
        """It is defined in another way, of which its failures say nothing; or in the same, to be tried at once."""
        if spec != self.spec:
            self.unable_since = None
        self.spec = spec
        self.failures, self.next_try_at, self.last_error = 0, 0.0, ""

    def proven(self) -> None:
        """One of its workers has finished a request."""
        self.failures = 0

    def failed(self, error: str, *, short: bool = False) -> None:
        """One of its workers has failed; ``short``: for there is no place for it."""
        self.last_error, self.is_short = error, short
        self.ready_since = None

    def backs_off(self, now: float) -> float:
        """One more failure counts: the next attempt is put off, for twice as long as before.

        Returns:
            The pause in seconds.
        """
        self.failures += 1
        if not self.is_unable(now):
            self.unable_since = now
        self.failed_at = now
        pause_s = min(limits.BACKOFF_MAX_S, 2.0 ** min(self.failures - 1, 30))
        self.next_try_at = now + pause_s
        return pause_s

    def got_ready(self, now: float, ordered_at: float) -> None:
        """One of its workers, ordered at that time, is ready."""
        if self.ready_since is None:
            self.ready_since = now
        if ordered_at > self.failed_at:
            self.unable_since = None

    def is_unable(self, now: float) -> bool:
        """Whether it has failed lately, and no worker that was ordered later has got ready."""
        return self.unable_since is not None and now - self.failed_at < limits.UNABLE_FORGOTTEN_S

    def may_grow(self, now: float) -> bool:
        """Whether another worker of it may be created now."""
        if self.ready_since is not None and now - self.ready_since >= limits.PROVEN_AFTER_S:
            self.failures = 0
        return not (
            self.deleted
            or now < self.next_try_at
            or (self.failures >= limits.FAILURES_BEFORE_ONE_AT_A_TIME and self.booting > 0)
            or self.is_full
        )

    @property
    def is_full(self) -> bool:
        """Whether it has all the workers that it may have."""
        return self.spec.max_workers is not None and self.workers >= self.spec.max_workers

    @property
    def price_for_perf(self) -> float:
        """Price per hour and perf unit."""
        return self.spec.price_per_hour / self.spec.perf
