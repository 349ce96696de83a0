"""What is known of a queue at one instant, as its adapter reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Depth:
    """How deep a queue is, at one instant.

    A job is counted once: it is ``waiting`` when a consumer could start it now (due, unblocked, not paused),
    ``in_flight`` while a consumer works on it, ``abandoned`` when its consumer is gone and only another one that comes
    brings it back, and ``delayed`` when it is due later.
    """

    waiting: int
    #: ``None`` where the broker cannot tell.
    in_flight: int | None
    #: Unix time in seconds at which the broker's numbers were true, if the broker says; else when they were read.
    sampled_at_s: float
    delayed: int = 0
    #: Age in seconds of the oldest waiting message, where the broker tells.
    oldest_age_s: float | None = None
    #: Seconds until the next delayed message is due, where the broker tells.
    next_due_in_s: float | None = None
    #: At most this many can run at the same time, whatever waits (serialising keys, a global limit of the queue).
    parallel_max: int | None = None
    #: The queue is paused by its library's own means: nothing in it is demand.
    paused: bool = False
    #: False: there may be more than these numbers show, because reading all would have cost too much, or because jobs
    #: may run unseen. What is not known to be in flight counts as waiting. Such a reading ends no reservation.
    exact: bool = True
    #: Messages delivered more often than their consumers would expect (a poison message, an expired lease).
    redelivered: int = 0
    #: Jobs that no live consumer is at, and that come back only when a consumer comes: an expired lease, a job that is
    #: stalled. ``None``: the broker does not tell which of those in flight are; it tells at most how many there are.
    abandoned: int | None = 0
