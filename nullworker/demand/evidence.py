"""What successive readings of a queue show that one does not.

Which reservations took a job: the queue became shorter, or more is in flight. Which jobs have no live consumer:
something stays in flight while none of ours is there. Whether reservations that end have come to nothing, and how long
the queue has been empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nullworker.demand.plan import at_work, covers, pool
from nullworker.demand.reservations import HOLDING, LIVE, UNMOVED_CLAIMS, Belief, Phase
from nullworker.demand.standstill import Standstill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.demand.depth import Depth
    from nullworker.demand.limits import Limits
    from nullworker.demand.plan import Reading
    from nullworker.demand.reservations import ReservationState

#: This many reservations in a row may end while the queue makes no progress; after that, opening slows down.
FUTILE_FREE = 8
#: A reservation that was held for longer has done work, whatever the queue shows.
FUTILE_HELD_S = 10.0
FUTILE_FIRST_S = 0.5
FUTILE_MAX_S = 60.0
#: The longest pause between two workers that are sent to bring back jobs without a live consumer.
RESCUE_MAX_S = 3600.0


class _DoneEnded(NamedTuple):
    """A reservation that has ended since the last reading, or since a late one, and when its job seemed to be over."""

    done_at_s: float
    closed_at_s: float


_SPARE = (Belief.LOADING, Belief.DONE)


class Evidence:
    """Is given every reading and every end of a reservation."""

    def __init__(self) -> None:
        self.futile = 0  # reservations in a row that ended soon, while the queue made no progress
        self._last: Reading | None = None
        self._empty_since_s: float | None = None
        self._at_rest_since_s: float | None = None  # nothing is in flight, whatever waits
        # Of reservations that have closed since the last reading: jobs they were seen to be at, and those seen at none.
        self._jobs_ended = self._unseen_ended = 0
        self._waiting_since_s: float | None = None
        self._over_since_s: float | None = None  # fewer jobs are in flight than ours were seen to be at,
        self._least_over = 0  # by so many at least
        self._done_ended: list[_DoneEnded] = []
        self._guessed: list[ReservationState] = []  # their jobs, which were never seen, seem to be over
        self.working = 0  # jobs that ours are believed to be at
        self._left = 0  # jobs in flight that none of ours is at
        self._left_since_s: float | None = None
        self._rescues = 0  # in a row that changed nothing
        self._rescuing = False
        self._rescue_pool = 0  # how many waited when the last was sent
        self.standstill = Standstill()

    def add(self, reading: Reading, reservations: Sequence[ReservationState], limits: Limits) -> None:
        """Compares a reading with the previous one, and notes what each reservation is seen to be at.

        Args:
            reading: the new one.
            reservations: all that are not forgotten; they are changed.
            limits: of the queue.
        """
        depth, last = reading.depth, self._last.depth if self._last is not None else None
        self._last = reading
        if pool(depth) or depth.in_flight != 0 or not depth.exact:
            self._empty_since_s = None
        elif self._empty_since_s is None:
            self._empty_since_s = reading.at_s
        if depth.in_flight != 0 or not depth.exact:
            self._at_rest_since_s = None
        elif self._at_rest_since_s is None:
            self._at_rest_since_s = reading.at_s
        if not pool(depth):
            self._waiting_since_s = None
        elif self._waiting_since_s is None:
            self._waiting_since_s = reading.at_s
        moves = last is not None
        if last is not None and last.paused is depth.paused:  # else what waits has changed without a job being taken
            moves = self._compare(last, reading, reservations, limits)
        self.standstill.add(reading, reservations, limits, moves=moves)
        holding = [r for r in reservations if r.phase in HOLDING]
        self._look_for_over(holding, reading, limits)
        self._jobs_ended = self._unseen_ended = 0
        self._done_ended = [each for each in self._done_ended if each.closed_at_s + 2 * limits.lag_s > reading.at_s]
        self._look_for_stuck(holding, limits, reading.at_s)
        self.working = at_work(reading, holding, limits, reading.at_s)
        self._look_for_left(reading, reservations, limits)

    def _compare(self, last: Depth, reading: Reading, reservations: Sequence[ReservationState], limits: Limits) -> bool:
        """Notes who took jobs; whether any was taken or done, as far as the numbers show."""
        depth = reading.depth
        fewer = pool(last) - pool(depth)
        risen = 0
        if depth.in_flight is not None and last.in_flight is not None:
            # A late number still has the jobs of those that have ended.
            risen = depth.in_flight - last.in_flight + (0 if limits.lag_s else self._jobs_ended)
        changed = (depth.waiting, depth.in_flight, depth.abandoned) != (last.waiting, last.in_flight, last.abandoned)
        taken = max(fewer, risen)
        by_ended = 0
        if depth.in_flight is not None and not limits.lag_s:
            # Taken, and in flight no more: by those that have ended, if they had not taken theirs before.
            by_ended = min(self._unseen_ended, max(0, fewer - max(0, risen)))
        # As many more in flight as fewer wait: those were taken. Else jobs came or were done at the same time, and more
        # may have been taken than the numbers show.
        if fewer < 0 or by_ended or (depth.in_flight != last.in_flight and not fewer == risen > 0):
            for reservation in reservations:
                reservation.moved = reservation.moved or reservation.phase in HOLDING
        # Where pops are not counted, arrivals hide them.
        is_progress = changed if depth.in_flight is None else fewer > 0 or depth.in_flight != last.in_flight
        if is_progress or not pool(depth):
            self.futile = 0
        if taken > by_ended:
            self._note_taken(taken - by_ended, reading, reservations, limits)
        return is_progress

    def _note_taken(
        self, taken: int, reading: Reading, reservations: Sequence[ReservationState], limits: Limits
    ) -> None:
        """So many jobs were taken: by those that may have taken them, the likeliest first."""
        for reservation in self._likeliest_first(reading, reservations, limits):
            jobs = min(taken, limits.jobs_per_worker - reservation.jobs)
            if jobs > 0:
                reservation.take(jobs)
                taken -= jobs
                if not taken:
                    return

    def _likeliest_first(
        self, reading: Reading, reservations: Sequence[ReservationState], limits: Limits
    ) -> list[ReservationState]:
        """Those that may have taken a job that is seen to be taken, by how likely it is.

        First those that have ended while a late reading may still show their job as waiting; then those that are sure
        to have no job, those that may have one, and those that took none for a while though jobs waited. Among equals
        those that are held longest.
        """

        def rank(reservation: ReservationState) -> tuple[int, float]:
            if reservation.phase is Phase.CLOSED:
                return 0, _held_first(reservation)
            if self._passed_over_s(reservation, reading.at_s) >= limits.claim_s:
                return 3, _held_first(reservation)
            is_unknown = reservation.belief(limits, reading.at_s) is Belief.UNKNOWN
            return (2 if is_unknown else 1), _held_first(reservation)

        ended = [r for r in reservations if r.phase is Phase.CLOSED and covers(r, reading, limits.lag_s)]
        free = [r for r in reservations if r.phase in HOLDING and r.jobs < limits.jobs_per_worker]
        return sorted([*ended, *free], key=rank)

    def _passed_over_s(self, reservation: ReservationState, now_s: float) -> float:
        """For how long a reservation whose job is over has taken no other, though jobs wait."""
        return 0.0 if reservation.jobs else self._waits_s(reservation.done_at_s, now_s)

    def _waits_s(self, free_since_s: float | None, now_s: float) -> float:
        """For how long a job waits while a reservation is free to take it; 0 for one that is not."""
        if free_since_s is None or self._waiting_since_s is None:
            return 0.0
        return now_s - max(free_since_s, self._waiting_since_s)

    def _look_for_over(self, holding: list[ReservationState], reading: Reading, limits: Limits) -> None:
        """Which jobs of ours are over: no more are at ours than are in flight at all."""
        in_flight = reading.depth.in_flight
        if in_flight is None or not reading.depth.exact:
            self._over_since_s = None
            return
        over = self._seen_over(sum([r.jobs for r in holding]) - in_flight, reading.at_s, limits.lag_s)
        unseen_over = 0
        if limits.jobs_per_worker == 1 and not limits.lag_s:  # else one that may be at several may still be at others
            unseen_over = self.working - self._jobs_ended - self._unseen_ended - over - in_flight
        self._guessed = [r for r in self._guessed if r.phase in HOLDING and not r.jobs]
        for reservation in self._guessed[: max(0, min(self._unseen_ended, -unseen_over))]:
            reservation.done_at_s = None  # what was over was the job of one that has ended
        for reservation in sorted(holding, key=_held_first) if over > 0 or unseen_over > 0 else ():
            done = min(over, reservation.jobs)
            over -= done
            if not done and unseen_over > 0 and reservation.belief(limits, reading.at_s) is Belief.UNKNOWN:
                unseen_over -= 1  # it was believed to be at one
                self._guessed.append(reservation)
            elif not done:
                continue
            # One that ends after its job seemed to be over, while another's does in its place, may have been mistaken
            # for that: then the other's has been over since.
            since_s = min([each.done_at_s for each in self._done_ended], default=reading.at_s)
            self._done_ended = [each for each in self._done_ended if each.done_at_s != since_s]
            reservation.finish(done, since_s)

    def _seen_over(self, over: int, now_s: float, lag_s: float) -> int:
        """How many jobs are over if ``over`` more were seen to be taken by ours than are in flight.

        Late numbers are believed when all of them have said so for as long as they may be late.
        """
        if over <= 0:
            self._over_since_s = None
            return 0
        if self._over_since_s is None:
            self._over_since_s, self._least_over = now_s, over
        self._least_over = min(self._least_over, over)
        if now_s - self._over_since_s < lag_s:
            return 0
        self._over_since_s = None
        return self._least_over

    def _look_for_stuck(self, holding: list[ReservationState], limits: Limits, now_s: float) -> None:
        for reservation in holding:
            if reservation.jobs:
                reservation.is_stuck = False
                continue
            free_since_s = reservation.done_at_s
            if free_since_s is None and reservation.is_adopted:
                # It may be at a job whose lease was over, and which waits again: what is in flight does not show that.
                free_since_s = reservation.held_at_s
            reservation.is_stuck = self._waits_s(free_since_s, now_s) >= UNMOVED_CLAIMS * limits.claim_s

    def _look_for_left(self, reading: Reading, reservations: Sequence[ReservationState], limits: Limits) -> None:
        """Whether jobs are in flight that none of ours works on, and that only a consumer may bring back.

        Those that are there for a job that waits would bring them back first. If they have had time to, and the job
        still waits, they may have: that changes no number, and leaves the one that waits without a worker.
        """
        depth, before = reading.depth, self._left
        self._left, spare, passed_over = 0, False, False
        if depth.in_flight and depth.abandoned is None and not depth.paused:
            free = [
                r for r in reservations if r.phase in LIVE if not r.jobs and r.belief(limits, reading.at_s) in _SPARE
            ]
            spare = bool(free)
            passed_over = spare and all(
                self._waits_s(r.held_at_s if r.done_at_s is None else r.done_at_s, reading.at_s) >= limits.claim_s
                for r in free
            )
            if pool(depth) == self._rescue_pool if self._rescuing else not pool(depth) or passed_over:
                self._left = depth.in_flight - self.working
        if self._rescuing and not (self._left and any(r.phase in LIVE and not r.jobs for r in reservations)):
            self._rescuing = False  # the one that was sent has taken a job, or ended
            self._left_since_s = None
        is_moving = self._left < before
        if is_moving:
            self._rescues = 0  # a consumer is there
        if not self._left or is_moving or (spare and not passed_over):
            self._left_since_s = None
        elif self._left_since_s is None:
            self._left_since_s = reading.at_s

    def rescue(self, limits: Limits, now_s: float) -> str:
        """Why a worker is to be sent though nothing waits, in words; "" if none is.

        What none of ours can be at, and has been in flight for longer than its lease, may be a dead consumer's: some
        brokers give it to another one only when that comes. It may be somebody else's as well, which the broker does
        not tell; so a worker that changed nothing is followed by another after twice as long.

        Args:
            limits: of the queue.
            now_s: the time.
        """
        since_s, last, lease_s = self._left_since_s, self._last, limits.lease_s
        if last is None or lease_s is None:
            return ""
        if not self._rescuing:
            pause_s = min(max(RESCUE_MAX_S, lease_s), lease_s * 2.0 ** min(self._rescues, 20))
            if since_s is None or now_s - since_s < pause_s:
                return ""
            self._rescuing, self._rescue_pool = True, pool(last.depth)
            self._rescues += 1
        return f"they are at none of our workers for longer than their lease of {lease_s:g} s: one is sent for them"

    def interrupt(self) -> None:
        """The queue could not be read: between two readings it may not have stayed as it was.

        Consumers that ended soon may have done so because of that, too, which is no reason to wait once it is back.
        """
        self._empty_since_s = self._at_rest_since_s = None
        self.futile = 0
        self.standstill.interrupt()

    def closed(self, reservation: ReservationState) -> None:
        """A reservation that was held has ended."""
        if reservation.held_at_s is None or reservation.closed_at_s is None:
            return
        self._jobs_ended += reservation.jobs
        if reservation.done_at_s is not None and not reservation.jobs:
            self._done_ended.append(_DoneEnded(reservation.done_at_s, reservation.closed_at_s))
        self._unseen_ended += not reservation.was_seen
        if reservation.closed_at_s - reservation.held_at_s >= FUTILE_HELD_S:
            self.futile = 0
        elif self._last is not None and pool(self._last.depth):
            self.futile += 1

    @property
    def pause_s(self) -> float:
        """The pause before the next reservation is opened, after so many without progress."""
        beyond = self.futile - FUTILE_FREE
        return 0.0 if beyond <= 0 else min(FUTILE_MAX_S, FUTILE_FIRST_S * 2.0 ** min(beyond - 1, 20))

    def idle(self, reservations: Sequence[ReservationState], limits: Limits, now_s: float) -> list[ReservationState]:
        """Held reservations that, as far as the queue shows, have had no work for ``end_idle_s``, or whose job has been
        over for ``max_idle_hold_s``.

        One that is not seen to have taken a job may be loading for one that waits; where nothing has waited for
        ``max_idle_hold_s`` either, its job came and went between two readings, or another's consumer took it.

        Empty while the broker's numbers are late or inexact: a consumer that they do not show may be at work.

        Args:
            reservations: all that are not forgotten.
            limits: of the binding.
            now_s: the time.
        """
        most_s = limits.max_idle_hold_s
        finished = self.finished(reservations, limits, now_s) if most_s is not None else []
        over = [r for r, for_s in finished if most_s is not None and for_s >= most_s]
        since_s, last = self._empty_since_s, self._last
        empty_s = min([each for each in (limits.end_idle_s, most_s) if each is not None], default=None)
        if empty_s is None or limits.lag_s > 0 or since_s is None or last is None:
            return over
        if last.at_s - since_s < empty_s or now_s - last.at_s > limits.stale_after_s:
            return over
        return over + [
            r
            for r in reservations
            if r not in over
            and r.phase is Phase.HELD
            and r.held_at_s is not None
            and last.at_s - r.held_at_s >= empty_s
        ]

    def finished(
        self, reservations: Sequence[ReservationState], limits: Limits, now_s: float
    ) -> list[tuple[ReservationState, float]]:
        """Held reservations whose job is over though they do not end, and for how many seconds.

        With something in flight it is not known which of them is at it; so there are none then, nor while the broker's
        numbers are late or inexact. Of one that an earlier dispatcher held nothing else is known: its job is over when
        nothing is in flight.

        Args:
            reservations: all that are not forgotten.
            limits: of the binding.
            now_s: the time.
        """
        since_s, last = self._at_rest_since_s, self._last
        if since_s is None or last is None or limits.lag_s > 0 or now_s - last.at_s > limits.stale_after_s:
            return []
        found = []
        for r in reservations:
            done_at_s = r.held_at_s if r.is_adopted and r.done_at_s is None else r.done_at_s
            if r.phase is Phase.HELD and not r.jobs and done_at_s is not None:
                found.append((r, last.at_s - max(since_s, done_at_s)))
        return found


def _held_first(reservation: ReservationState) -> float:
    return float("inf") if reservation.held_at_s is None else reservation.held_at_s
