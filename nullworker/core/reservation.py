"""A reservation's life, as a table: from a client's first /route/ to the end of its session.

waiting ─► granted ─► session ─► ended        granted ─► waiting (the grant did not take; it keeps its place)
session ─► granted (its session has ended, and its client is on its way to the worker again)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from nullworker.core.reconcile.deliveries import Delivery


class Stage(enum.Enum):
    """Where a reservation is in its life."""

    WAITING = "waiting"
    GRANTED = "granted"  # a worker is promised, and has not confirmed
    SESSION = "session"  # the worker says that it holds it
    ENDED = "ended"

    __hash__ = object.__hash__  # of its identity: an enum's own is computed each time


class ReservationTransition(enum.Enum):
    """What can happen in a reservation's life."""

    GRANT = "grant"
    CONFIRM = "confirm"
    REQUEUE = "requeue"
    REOPEN = "reopen"
    END = "end"

    __hash__ = object.__hash__


#: TRANSITIONS[stage][transition] is the next stage; what is not here cannot happen.
TRANSITIONS: dict[Stage, dict[ReservationTransition, Stage]] = {
    # A worker may report a session of one that waits: its grant had expired before the report came.
    Stage.WAITING: {
        ReservationTransition.GRANT: Stage.GRANTED,
        ReservationTransition.CONFIRM: Stage.SESSION,
        ReservationTransition.END: Stage.ENDED,
    },
    Stage.GRANTED: {
        ReservationTransition.CONFIRM: Stage.SESSION,
        ReservationTransition.REQUEUE: Stage.WAITING,
        ReservationTransition.END: Stage.ENDED,
    },
    Stage.SESSION: {ReservationTransition.REOPEN: Stage.GRANTED, ReservationTransition.END: Stage.ENDED},
    Stage.ENDED: {},
}


class ImpossibleReservationTransition(Exception):  # noqa: N818 - it is a fact about the table, and a bug in the core
    """The table has no such transition at this stage."""

    def __init__(self, request_idx: int, stage: Stage, transition: ReservationTransition) -> None:
        super().__init__(f"reservation {request_idx} cannot {transition.value} while it is {stage.value}")


@dataclass(slots=True, eq=False)
class Reservation:
    """One ``request_idx``: what a client asked for, and what became of it."""

    request_idx: int
    endpoint_id: int
    cost: float
    asked_at: float
    seen_at: float
    replay_timeout_s: float
    stage: Stage = Stage.WAITING
    worker_id: int = 0
    #: Its /route/ call is held open now.
    present: bool = True
    #: Its client knows its number, and can ask again under it. One that does not cannot come back after a restart.
    number_known: bool = False
    #: Not seen for so long that it gets no grant until it asks again; it keeps its place until `replay_timeout_s`.
    absent: bool = False
    #: Taken over after a restart, and has not asked since: it keeps its place, and nothing is created for it.
    unseen: bool = False
    #: A worker reported it, and the engine did not know it.
    adopted: bool = False
    #: Part of its endpoint's demand at present; its waiting line's own.
    counted: bool = False
    #: Has waited for `target_queue_time`.
    overdue: bool = False
    granted_at: float = 0.0
    expires_at: float = 0.0
    #: How far the present grant has been delivered to its client, and what the worker has said of it.
    delivery: Delivery = field(default_factory=Delivery)

    def transition(self, transition: ReservationTransition) -> None:
        """Takes one step of the table.

        Raises:
            ImpossibleStep: the table has none such at this stage.
        """
        following = TRANSITIONS[self.stage].get(transition)
        if following is None:
            raise ImpossibleReservationTransition(self.request_idx, self.stage, transition)
        self.stage = following
