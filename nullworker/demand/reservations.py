"""A dispatcher's reservations, as far as demand needs them, and what each is believed to be doing."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nullworker.demand.limits import Limits


class Phase(enum.Enum):
    """The phase of a dispatcher's reservation."""

    ASKED = "asked"  # waits for a worker; may be withdrawn
    CREATING = "creating"  # a worker may hold it already; its answer is awaited
    HELD = "held"
    CLOSED = "closed"  # kept while a late reading may still show its job


# Tuples, not sets: they are searched by identity, while a set would call the Python code of Enum.__hash__ each time.
#: The phases in which a worker holds the reservation, or may hold it.
HOLDING = (Phase.CREATING, Phase.HELD)
LIVE = (Phase.ASKED, Phase.CREATING, Phase.HELD)
#: A job that is taken makes the queue shorter, unless another comes between the same readings. That is rare enough to
#: believe for so many times as long that nothing was taken, and not rare enough to believe it for ever.
UNMOVED_CLAIMS = 10


class Belief(enum.Enum):
    """What a held reservation is believed to be doing. The words are what users read."""

    LOADING = "loading"  # it has taken no job: it will take one that waits
    AT_JOB = "at a job"
    DONE = "done"  # its job is over; it may take another, or end
    UNKNOWN = "unknown"  # it may have taken a job while the queue moved


@dataclass(slots=True)
class ReservationState:
    """One reservation. Times are seconds of one monotonic clock."""

    phase: Phase
    asked_at_s: float
    held_at_s: float | None = None
    closed_at_s: float | None = None
    jobs: int = 0  # that it is seen to be at
    done_at_s: float | None = None  # when a job that it was at was seen to be over
    moved: bool = False  # while it was held the queue changed so that it may have taken a job unseen
    is_adopted: bool = False  # an earlier dispatcher held it, and what that one saw is lost
    #: Its job is over, or may be if it is adopted, and it neither ends nor takes another of those that wait.
    is_stuck: bool = False

    @property
    def was_seen(self) -> bool:
        """Whether a reading has shown that it took a job."""
        return self.jobs > 0 or self.done_at_s is not None

    def belief(self, limits: Limits, now_s: float) -> Belief:
        """What it is believed to be doing; only of one that is held, or may be.

        Args:
            limits: of the queue.
            now_s: the time.
        """
        if self.jobs:
            return Belief.AT_JOB
        if self.done_at_s is not None:
            return Belief.DONE
        return Belief.UNKNOWN if self.is_unsure(limits, now_s) else Belief.LOADING

    def is_unsure(self, limits: Limits, now_s: float) -> bool:
        """Whether it may be at more jobs than it is seen to be at.

        A consumer that is held for `Limits.claim_s` may have taken a job unseen, if the queue moved; for
        `UNMOVED_CLAIMS` times as long, if it did not. A late reading shows what was so `Limits.lag_s` ago.

        Args:
            limits: of the queue.
            now_s: the time.
        """
        if self.is_adopted and not limits.lag_s:
            return True
        claims = 1 if self.moved or self.is_adopted else UNMOVED_CLAIMS
        held_s = 0.0 if self.held_at_s is None else now_s - self.held_at_s
        return held_s >= limits.lag_s + claims * limits.claim_s

    def take(self, jobs: int) -> None:
        """Notes that it is seen to have taken so many jobs."""
        self.jobs += jobs

    def finish(self, jobs: int, now_s: float) -> None:
        """Notes that so many of its jobs are seen to be over."""
        self.jobs -= jobs
        self.done_at_s = now_s
