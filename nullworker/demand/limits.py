"""What an operator allows one queue, and what is known of how late its readings may be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one queue."""

    most: int
    jobs_per_worker: int = 1
    lag_s: float = 0.0  # how late the broker's numbers may be
    stale_after_s: float = 10.0
    claim_s: float = 30.0  # by then a consumer has taken a job, if the queue moved
    end_idle_s: float | None = None
    max_idle_hold_s: float | None = None  # a reservation whose job is over may be held for so long
    lease_s: float | None = None  # after which a job without a live consumer may be given to another; None: not known
