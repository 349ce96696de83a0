"""Which end belongs to which delivery of a reservation.

A *delivery* is one answer of the engine that sends a client to a worker. A client may be sent to the same worker
several times for one request (its answer or the worker's was lost), and what the worker says of each of these attempts
arrives late, twice or not at all. Each delivery is *accounted for* by one thing that the worker says: a session, a
refusal, an end. As long as one is not, another session of the request may still begin on that worker.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from nullworker.core import limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.core.events import Finished, WorkerReported

_K = TypeVar("_K")

#: Of a memory of more than so many, the old ones are forgotten many at a time: to find the first key of a dict takes
#: the longer, the more keys before it were deleted.
_ONE_BY_ONE = 1024


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
    accounted_before: int = 0  # and how many of the answers were accounted for then
    #: Taken over after a restart, and not listed since: a report that does not list it may be one of before.
    restored: bool = False
    #: The newest report did not list it, and may have been made before it began.
    unlisted: bool = False
    #: Two sessions bear its request_idx: this one is not the one that the engine answers with.
    orphan: bool = False
    #: The report that said that it has begun may be of an earlier session: none of the answers is accounted for by it.
    maybe_earlier: bool = False
    #: Its client asks, and is answered with this session only when a report that is certainly new lists it.
    withheld: bool = False

    @property
    def pending(self) -> bool:
        """Whether its client was sent to the worker by an answer of which the worker has said nothing yet."""
        return self.count > self.accounted and not self.orphan

    @property
    def is_taken_over(self) -> bool:
        """Whether its last answer was another engine's, before a restart."""
        return self.answered_at == float("-inf")

    @property
    def unaccounted(self) -> int:
        """Answers of which the worker has said nothing yet."""
        return self.count - self.accounted

    def granted(self, received: int) -> None:
        """A new grant begins, on a worker that has received so many requests."""
        self.count = self.accounted = self.accounted_before = 0
        self.received_before, self.maybe_earlier = received, False
        self.restored = self.unlisted = False

    def delivered(self, now: float) -> None:
        """The client is answered with its worker."""
        self.count += 1
        self.answered_at, self.answer_again_at, self.withheld = now, None, False

    def withdrawn(self) -> None:
        """The grant did not take."""
        self.count = self.accounted = self.accounted_before = 0
        self.answer_again_at, self.withheld, self.maybe_earlier = None, False, False

    def new_process(self) -> None:
        """The worker's next process counts from 0: any session that it lists is one that it has received."""
        self.received_before, self.accounted_before = 0, self.accounted

    def taken_over(self, *, sent: bool, session: bool) -> None:
        """A restart: an answer of a moment before may be on its way to the client, where it was ``sent`` one."""
        self.count = 1
        self.accounted = self.accounted_before = int(not sent)
        self.answered_at = float("-inf")
        self.restored = session

    def reopened(self, received: int) -> int:
        """Its session has ended while its client is on its way to the worker again, which is a grant.

        Each answer of which the worker has said nothing may still lead to a session, not the last alone.

        Returns:
            How many ends of earlier attempts may still be told: besides those of the last answer and of the session.
        """
        self.accounted_before = self.accounted
        self.received_before = received
        return max(0, self.count - 2)

    @property
    def received_at_least(self) -> int:
        """How many requests the worker has received, by what is accounted for of this grant."""
        return self.received_before + self.accounted - self.accounted_before

    def is_of_before(self, report: WorkerReported, *, finished: bool) -> bool:
        """Whether a report lists a session of the request whose end was told already.

        Each answer that is accounted for is a request that the worker received; a further session is one more.
        """
        return finished and report.received <= self.received_at_least


@dataclass(slots=True, eq=False)
class FinishLog:
    """What one worker has told, and may still tell, of the ends of its sessions.

    (Plain dicts: there are as many as workers, and all that is asked of them is the order of their keys.)
    """

    #: request_idx -> when we learnt that it finished, in the order of learning.
    finished_at: dict[int, float] = field(default_factory=dict)
    #: request_idx -> how many ends it may still tell that belong to an earlier grant: of sessions, or refusals.
    pending: dict[int, int] = field(default_factory=dict)
    #: request_idx -> how many of sessions alone: they began, so the worker cannot have refused them.
    pending_sessions: dict[int, int] = field(default_factory=dict)
    #: (request_idx, entered_at) -> when it was told, so that a repetition counts once.
    seen_attempts: dict[tuple[int, float], float] = field(default_factory=dict)
    #: (request_idx, whether it was refused) -> the latest `entered_at` of its ends that were told, the last told last.
    told_until: dict[tuple[int, bool], float] = field(default_factory=dict)
    #: The same as it was before a restart: ends up to that may be told once more, for our answer may have been lost.
    told_before: dict[tuple[int, bool], float] = field(default_factory=dict)

    def remember_finished(self, request_idx: int, now: float) -> None:
        """The request's session has ended."""
        _remember(self.finished_at, request_idx, now)

    def has_just_finished(self, request_idx: int, made_after: float, now: float, listening_since: float) -> bool:
        """Whether a report that lists the request as held may be one of before its end.

        Args:
            request_idx: the request.
            made_after: a time after which the report was certainly made; 0: none is known.
            now: the time.
            listening_since: while the engine was away, reports waited for it: the time since its return is what counts.
        """
        finished_at = self.finished_at.get(request_idx)
        if finished_at is None or made_after > finished_at:
            return False  # the worker has another session for it
        return now - max(finished_at, listening_since) < limits.STRAGGLER_S

    def expect(self, request_idx: int, count: int = 1) -> None:
        """The worker may still tell so many ends or refusals of the request that say nothing of a later grant."""
        _expect(self.pending, request_idx, count)

    def expect_session(self, request_idx: int) -> None:
        """The worker may still tell the end of a session of the request that is none of a later grant's."""
        _expect(self.pending_sessions, request_idx, 1)

    def was_told(self, request: Finished) -> bool:
        """Whether this end was told before, be it to an engine before this one."""
        until = self.told_before.get((request.request_idx, request.status == "Rejected"), -math.inf)
        return request.entered_at <= until or (request.request_idx, request.entered_at) in self.seen_attempts

    def new_finishes(self, told: Iterable[Finished], now: float) -> list[tuple[Finished, bool]]:
        """What was not told before, and whether it belongs to an earlier grant than the one that stands."""
        new = []
        for request in told:
            if self.was_told(request):
                continue
            kind = (request.request_idx, request.status == "Rejected")
            _remember(self.seen_attempts, (request.request_idx, request.entered_at), now)
            if math.isfinite(request.entered_at):
                self.told_until[kind] = max(self.told_until.pop(kind, request.entered_at), request.entered_at)
                if len(self.told_until) > limits.ENDS_RECORDED:
                    del self.told_until[next(iter(self.told_until))]
            earlier = request.status != "Rejected" and _take(self.pending_sessions, request.request_idx)
            new.append((request, earlier or _take(self.pending, request.request_idx)))
        return new

    # What is written down, for an engine after a restart.

    @property
    def ends_told(self) -> tuple[tuple[int, bool, float], ...]:
        """The last ends that were told: (request_idx, whether it was refused, `entered_at`), the latest of each."""
        return tuple([(*kind, entered_at) for kind, entered_at in self.told_until.items()])

    @property
    def ends_expected(self) -> tuple[tuple[int, int], ...]:
        """The ends that may still be told of earlier grants: (request_idx, count), of the last requests."""
        if not self.pending and not self.pending_sessions:
            return ()
        expected = self.pending_sessions.copy()
        for request_idx, count in self.pending.items():
            expected[request_idx] = expected.pop(request_idx, 0) + count
        return tuple(expected.items())[-limits.ENDS_RECORDED :]

    def restored(
        self, ends_told: tuple[tuple[int, bool, float], ...], ends_expected: tuple[tuple[int, int], ...]
    ) -> None:
        """The engine was restarted, and these were written down."""
        self.told_before = {(request_idx, refused): entered_at for request_idx, refused, entered_at in ends_told}
        self.told_until = dict(self.told_before)
        self.pending = dict(ends_expected)


def _expect(pending: dict[int, int], request_idx: int, count: int) -> None:
    pending[request_idx] = pending.pop(request_idx, 0) + count
    if len(pending) > limits.ENDS_EXPECTED_MAX:
        del pending[next(iter(pending))]


def _take(pending: dict[int, int], request_idx: int) -> bool:
    """Whether one more was expected; it is not any longer."""
    count = pending.get(request_idx, 0)
    if count > 1:
        pending[request_idx] = count - 1
    elif count:
        del pending[request_idx]
    return count > 0


def _remember(memory: dict[_K, float], key: _K, now: float) -> None:
    memory.pop(key, None)  # its place is at the end now
    memory[key] = now
    over = now - limits.FINISHED_MEMORY_S
    if len(memory) <= _ONE_BY_ONE:
        while next(iter(memory.values())) < over:
            del memory[next(iter(memory))]
    elif len(memory) > limits.FINISHED_MEMORY or next(iter(memory.values())) < over - limits.FINISHED_MEMORY_S / 4:
        kept = list(memory.items())[-limits.FINISHED_MEMORY * 3 // 4 :]
        memory.clear()
        memory.update((known, at) for known, at in kept if at >= over)
