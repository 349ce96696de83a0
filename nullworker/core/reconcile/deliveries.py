"""Which end belongs to which delivery of a reservation.

A *delivery* is one answer of the engine that sends a client to a worker. A client may be sent to the same worker
several times for one request (its answer or the worker's was lost), and what the worker says of each of these attempts
arrives late, twice or not at all. Each delivery is *accounted for* by one thing that the worker says: a session, a
refusal, an end. As long as one is not, another session of the request may still begin on that worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from nullworker.core import limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.core.events import Finished, WorkerReported

_K = TypeVar("_K")


@dataclass(slots=True, eq=False)
class Delivery:
    """How far a reservation's present grant has been delivered."""

    count: int = 0  # answers with this worker
    accounted: int = 0  # of these, how many the worker has said something of
    answered_at: float = 0.0
    #: When it is answered again, unless its worker says before that it refused it.
    answer_again_at: float | None = None
    #: How many requests its worker had received, by its own count, when it was given this one.
    received_before: int = 0
    #: Taken over after a restart: one report that does not list it may be one of before.
    restored: bool = False
    #: Two sessions bear its request_idx: this one is not the one that the engine answers with.
    orphan: bool = False

    @property
    def pending(self) -> bool:
        """Whether its client was sent to the worker by an answer of which the worker has said nothing yet."""
        return self.count > self.accounted and not self.orphan

    @property
    def unaccounted(self) -> int:
        """Answers of which the worker has said nothing yet."""
        return self.count - self.accounted

    def granted(self, received: int) -> None:
        """A new grant begins, on a worker that has received so many requests."""
        self.count = self.accounted = 0
        self.received_before = received

    def delivered(self, now: float) -> None:
        """The client is answered with its worker."""
        self.count += 1
        self.answered_at, self.answer_again_at = now, None

    def withdrawn(self) -> None:
        """The grant did not take."""
        self.count = self.accounted = 0
        self.answer_again_at = None

    def taken_over(self, *, sent: bool, session: bool) -> None:
        """A restart: an answer of a moment before may be on its way to the client, where it was ``sent`` one."""
        self.count, self.accounted = 1, int(not sent)
        self.answered_at = float("-inf")
        self.restored = session

    def reopened(self, received: int) -> int:
        """Its session has ended while its client is on its way to the worker again, which is a grant.

        Returns:
            How many ends of earlier sessions may still be told: besides those of the last answer and of the session.
        """
        earlier = max(0, self.count - 2)
        self.accounted = self.count - 1
        self.received_before = received
        return earlier

    def is_of_before(self, report: WorkerReported, *, finished: bool) -> bool:
        """Whether a report lists the session that the request had there before it was given the worker again."""
        return not report.seq and report.received <= self.received_before and finished


@dataclass(slots=True, eq=False)
class FinishLog:
    """What one worker has told, and may still tell, of the ends of its sessions.

    (Plain dicts: there are as many as workers, and all that is asked of them is the order of their keys.)
    """

    #: request_idx -> when we learnt that it finished, in the order of learning.
    finished_at: dict[int, float] = field(default_factory=dict)
    #: request_idx -> how many ends it may still tell that belong to an earlier grant.
    pending: dict[int, int] = field(default_factory=dict)
    #: (request_idx, entered_at) -> when it was told, so that a repetition counts once.
    seen_attempts: dict[tuple[int, float], float] = field(default_factory=dict)

    def remember_finished(self, request_idx: int, now: float) -> None:
        """The request's session has ended."""
        _remember(self.finished_at, request_idx, now)

    def has_just_finished(self, request_idx: int, now: float) -> bool:
        """Whether a report that lists the request as held may be one of before its end."""
        finished_at = self.finished_at.get(request_idx)
        return finished_at is not None and now - finished_at < limits.STRAGGLER_S

    def expect(self, request_idx: int, count: int = 1) -> None:
        """The worker may still tell so many ends of the request that say nothing of a later grant."""
        self.pending[request_idx] = self.pending.pop(request_idx, 0) + count
        if len(self.pending) > limits.FINISHED_MEMORY:
            del self.pending[next(iter(self.pending))]

    def new_finishes(self, told: Iterable[Finished], now: float) -> list[tuple[Finished, bool]]:
        """What was not told before, and whether it belongs to an earlier grant than the one that stands."""
        new = []
        for request in told:
            attempt = (request.request_idx, request.entered_at)
            if attempt in self.seen_attempts:
                continue
            _remember(self.seen_attempts, attempt, now)
            earlier = self.pending.get(request.request_idx, 0)
            if earlier > 1:
                self.pending[request.request_idx] = earlier - 1
            else:
                self.pending.pop(request.request_idx, None)
            new.append((request, earlier > 0))
        return new


def _remember(memory: dict[_K, float], key: _K, now: float) -> None:
    memory.pop(key, None)  # its place is at the end now
    memory[key] = now
    while len(memory) > limits.FINISHED_MEMORY or next(iter(memory.values())) < now - limits.FINISHED_MEMORY_S:
        del memory[next(iter(memory))]
