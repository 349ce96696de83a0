"""Which job a held reservation is for, where the broker says so.

Some brokers keep with each job in flight the name of the consumer that has it: `nullworker.queues.base.NamesConsumers`.
A consumer that has its reservation's id (``NULL_SESSION_ID``) as a part of that name is thereby told apart from all
others, also from those that no dispatcher started. Nothing is concluded from counts or times.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nullworker.queues.base import NamesConsumers, QueueError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nullworker.dispatch.reservation_task import ReservationTask
    from nullworker.queues.base import Queue, TakenJob

log = logging.getLogger(__name__)

#: The broker is asked at most so often, and only while something is held and in flight.
ASK_EVERY_S = 0.5
#: After it refused, so much later.
ASK_AGAIN_S = 60.0
#: A session id that is shorter could be a part of a name by chance. Workers choose 22 characters.
SESSION_ID_MIN = 16
#: So many jobs of one reservation are named; of further ones it is said that there are some.
NAMED_MAX = 5
NAME_CHARACTERS_MAX = 30


class JobNames:
    """Asks one queue, now and then, and names the jobs of reservations."""

    def __init__(self, now_s: Callable[[], float], on_named: Callable[[ReservationTask], None]) -> None:
        """Asks nothing yet.

        Args:
            now_s: the time, in monotonic seconds.
            on_named: called with a reservation when another job of it is known.
        """
        self._now_s = now_s
        self._on_named = on_named
        self._not_before_s = float("-inf")

    async def look(self, queue: Queue, reservations: Sequence[ReservationTask]) -> None:
        """Names what can be named. A broker that refuses is asked again later, and nothing else depends on it.

        Args:
            queue: is open.
            reservations: those that are held.
        """
        if not isinstance(queue, NamesConsumers) or not reservations or self._now_s() < self._not_before_s:
            return
        self._not_before_s = self._now_s() + ASK_EVERY_S
        try:
            taken = await queue.taken()
        except QueueError as error:
            log.debug("which job a reservation is for is not known: %s", error)
            self._not_before_s = self._now_s() + ASK_AGAIN_S
            return
        for reservation in self.named(taken, reservations):
            self._on_named(reservation)

    @staticmethod
    def named(taken: Sequence[TakenJob], reservations: Sequence[ReservationTask]) -> list[ReservationTask]:
        """Adds jobs to the reservations whose consumers have them; returns those that got one.

        Args:
            taken: jobs in flight, and their consumers' names.
            reservations: those that are held.
        """
        changed = []
        for reservation in reservations:
            held = reservation.client_reservation
            if held is None or len(held.session_id) < SESSION_ID_MIN:
                continue
            theirs = [each.job for each in taken if held.session_id in each.consumer]
            unknown = [job for job in theirs if job not in reservation.jobs]
            if unknown and len(reservation.jobs) <= NAMED_MAX:
                reservation.jobs += unknown
                changed.append(reservation)
        return changed


def shown(jobs: Sequence[str]) -> str:
    """The jobs of a reservation as one name: ``17``, or ``17, 18``, or with an ellipsis where there are many."""
    names = [_short(job) for job in jobs[:NAMED_MAX]]
    return ", ".join([*names, "…"] if len(jobs) > NAMED_MAX else names)


def _short(job: str) -> str:
    return job if len(job) <= NAME_CHARACTERS_MAX else job[: NAME_CHARACTERS_MAX - 1] + "…"
