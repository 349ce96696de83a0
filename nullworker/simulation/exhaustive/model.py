"""What surrounds the engine in a small world, as it truly is: instances, clients, and messages under way.

All of it is immutable: a move makes new values, and a snapshot of a world is the values that it has. Times are those of
the engine's clock; only a `wait` lets time pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from nullworker.core.engine import Engine
    from nullworker.core.events import Event
    from nullworker.core.parameters import Parameters
    from nullworker.simulation.exhaustive.scope import Scope

#: An instance with this id bears the engine's mark, and the engine never made it.
UNKNOWN_ID = 1_000

#: Each process numbers its reports from beyond those of the one before.
NUMBERS_APART = 1_000_000

# An instance's life
ABSENT = "absent"  # ordered, or to be destroyed, and not there
BOOTING = "booting"
READY = "ready"
ENDED = "ended"  # its process has ended by itself
STOPPED = "stopped"

# A client's stage
CALLING = "calling"  # its call is held open
BETWEEN = "between"  # it is to ask again: between two polls, refused by its worker, or without an answer
GOING = "going"  # it has a grant, and is on its way to the worker
HOLDING = "holding"


class Instance(NamedTuple):
    """An instance as it truly is."""

    worker_id: int
    life: str
    orders: tuple[str, ...] = ()  # that its fleet has not answered, in order
    sessions: tuple[int, ...] = ()  # request_idx
    late: tuple[int, ...] = ()  # of these, those that were begun with a grant that had run out
    ends: tuple[tuple[int, str, float], ...] = ()  # that it has not told: request_idx, status, number of the attempt
    received: int = 0
    reports: int = 0
    boot: int = 0
    error: bool = False  # it reports one
    erred: bool = False  # it has reported one in this boot
    announced: bool = False  # its end was
    made_at: float = 0.0
    ordered_at: float = 0.0  # when its creation was ordered
    free_since: float = 0.0
    heard_at: float = 0.0  # its last report that was delivered
    heard: bool = False  # by this engine
    numbered_at: float = -1000.0  # its last report with a number that was delivered
    newest: int = 0  # the number of the newest report that was delivered
    listed: tuple[int, ...] = ()  # and the sessions that it listed
    ending_at: float = -1000.0  # the last stop or destroy ordered


class Client(NamedTuple):
    """A client with its one reservation."""

    request_idx: int
    stage: str
    knows_number: bool = False
    worker_id: int = 0  # that it was given last
    usable_until: float = 0.0
    given_at: float = -1000.0


class Mail(NamedTuple):
    """A message that is long under way."""

    event: Event
    made_at: float
    worker_id: int  # 0: a fleet's list
    number: int = 0  # of a report, among all of its worker
    delivered: bool = False  # at least once


class Surroundings:
    """All that a small world has: the engine, and what surrounds it."""

    __slots__ = (
        "calm",
        "clients",
        "endpoint",
        "engine",
        "failed_at",
        "faults",
        "given",
        "instances",
        "journal",
        "kill",
        "mail",
        "newcomers",
        "next_request",
        "now",
        "pause_until",
        "put",
        "restarted_at",
        "scope",
        "seen",
        "started_at",
    )

    scope: Scope
    engine: Engine
    now: float
    instances: dict[int, Instance]
    clients: dict[int, Client]  # by request_idx
    mail: tuple[Mail, ...]
    newcomers: int  # clients that are still to come
    faults: int  # that may still happen
    next_request: int
    started_at: float  # when this engine was started again
    restarted_at: float  # the same, if there were workers before
    failed_at: float  # the last failure of a worker
    pause_until: float  # no creation before it, after one that failed
    given: tuple[tuple[int, int], ...]  # (request_idx, worker_id) that this engine was restored with
    calm: bool  # nothing has gone wrong so far
    put: str  # what an operator has made of the endpoint: a key of `Scope.as_put`, or `scope.DELETED`
    endpoint: Parameters  # its parameters now
    #: "": no kill; else the engine is killed at its next event: before its "answers", or before its "rows".
    kill: str
    #: What has been seen in any world, for what must be seen sometimes; not part of a state.
    seen: set[Any]
    #: Lines of what happens; None: they are not kept.
    journal: list[str] | None
