"""The views as they are sent: times ``at_s`` are Unix time, durations are seconds."""

from __future__ import annotations

from typing import Any

import msgspec


class Eta(msgspec.Struct, frozen=True):
    """When a waiter may get its worker. ``in_s`` is None where there is nothing to estimate it from."""

    in_s: float | None
    ground: str  # what it is estimated from, or why it cannot be


class GroupView(msgspec.Struct, frozen=True):
    """A workergroup of an endpoint."""

    id: int
    fleet: str
    workers: int
    booting: int
    failures: int
    last_error: str
    next_try_in_s: float


class ChartPoint(msgspec.Struct, frozen=True, array_like=True):
    """An endpoint's counts at one moment."""

    at_s: float
    waiting: int
    held: int
    up: int  # free and held
    booting: int


class EndpointOverview(msgspec.Struct, frozen=True):
    """An endpoint: one sentence, the numbers behind it, and its parameters."""

    id: int
    name: str
    state: str
    headline: str
    why: str  # why the first that waits has no worker; "": none waits
    why_code: str
    ready: int
    held: int
    booting: int
    unresponsive: int  # of those that are free or held
    workers: dict[str, int]  # by state
    max_workers: int
    wanted_perf: float
    waiting: int
    oldest_s: float  # how long the first that waits has waited
    next: Eta
    parameters: dict[str, Any]
    workergroups: tuple[GroupView, ...]
    chart: tuple[ChartPoint, ...] = ()


class Overview(msgspec.Struct, frozen=True):
    """All endpoints."""

    at_s: float
    version: str
    endpoints: tuple[EndpointOverview, ...]
    complaints: tuple[str, ...]  # what is wrong with the engine itself, in sentences


class LaneState(msgspec.Struct, frozen=True, array_like=True):
    """A worker is in a state since then."""

    at_s: float
    state: str


class Hold(msgspec.Struct, frozen=True, array_like=True):
    """A reservation on a worker; ``until_s`` is None while it lasts."""

    request_idx: int
    from_s: float
    until_s: float | None
    job: str = ""  # what it is for, where its holder has told


class Lane(msgspec.Struct, frozen=True):
    """A worker over the last hour."""

    worker_id: int
    endpoint_id: int
    workergroup_id: int
    states: tuple[LaneState, ...]
    holds: tuple[Hold, ...]


class Lanes(msgspec.Struct, frozen=True):
    """All lanes where ``whole`` is true; else what is new in those that changed since the answer before this one.

    What is new may repeat what was sent: states by their time, holds by their request.
    """

    at_s: float
    since_s: float
    serial: int
    whole: bool
    lanes: tuple[Lane, ...]
    gone: tuple[int, ...] = ()  # workers whose last state is older than `since_s`


class WaiterRow(msgspec.Struct, frozen=True):
    """One that waits."""

    position: int
    request_idx: int
    endpoint: str
    age_s: float
    cost: float
    asks: bool  # its client has a call open, or asked a moment ago
    reason: str
    reason_code: str
    eta: Eta


class WaitingLine(msgspec.Struct, frozen=True):
    """All that wait, by endpoint, first come first."""

    at_s: float
    total: int
    rows: tuple[WaiterRow, ...]  # the first of each endpoint


class DecisionRow(msgspec.Struct, frozen=True):
    """A decision, and why."""

    at_s: float
    level: str
    kind: str
    endpoint_id: int
    worker_id: int
    request_idx: int
    cause: str
    reason: str


class DecisionList(msgspec.Struct, frozen=True):
    """The latest decisions, oldest first."""

    at_s: float
    rows: tuple[DecisionRow, ...]


class WorkerStory(msgspec.Struct, frozen=True):
    """A worker: why it is as it is, how it came to be so, and the end of its log."""

    at_s: float
    id: int
    answer: str
    endpoint: str
    workergroup_id: int
    fleet: str
    state: str  # "gone" where it is no more
    for_s: float
    reported_s_ago: float
    url: str
    perf: float
    request_idxs: tuple[int, ...]
    owned: bool
    note: str
    lane: Lane | None
    decisions: tuple[DecisionRow, ...]
    log: tuple[str, ...] = ()
    draining: str = ""  # why an operator has it drained; "": none does
    cost: CostRow | None = None  # None: not known


class StageRow(msgspec.Struct, frozen=True, array_like=True):
    """A reservation is at a stage since then, on a worker (0: none)."""

    at_s: float
    stage: str
    worker_id: int


class ReservationStory(msgspec.Struct, frozen=True):
    """A reservation: where it is in its life, and how it came there."""

    at_s: float
    request_idx: int
    answer: str
    endpoint: str
    stage: str  # "ended" where it is no more
    worker_id: int
    eta: Eta | None
    stages: tuple[StageRow, ...]
    decisions: tuple[DecisionRow, ...]
    cost: CostRow | None = None  # None: not known
    queue: str = ""  # what it is for, where its holder has told
    job: str = ""


class QueueRow(msgspec.Struct, frozen=True):
    """A queue as its dispatcher reads it. None: not read yet, or not told by the broker."""

    dispatcher: str  # host and process
    queue: str
    endpoint: str
    waiting: int | None
    in_flight: int | None
    delayed: int | None
    abandoned: int | None  # jobs whose consumers are gone
    paused: bool
    want: int | None
    asked: int
    held: int
    doing: dict[str, int]  # of those held: how many are believed to be at what
    reason: str
    trouble: str
    warnings: tuple[str, ...]
    read_s_ago: float | None
    heard_s_ago: float  # since the dispatcher last told


class Queues(msgspec.Struct, frozen=True):
    """All queues of all dispatchers that told the engine lately."""

    at_s: float
    rows: tuple[QueueRow, ...]


class CostRow(msgspec.Struct, frozen=True):
    """What something cost, in the currency of the prices, as decimal numbers that sum up exactly."""

    name: str
    worker_s: float  # of all workers together
    held_s: float
    held: str
    boot: str
    idle: str
    other: str  # stopping, stopped, ending, failed
    storage: str
    total: str


class Costs(msgspec.Struct, frozen=True):
    """What workers cost since a time."""

    at_s: float
    since_s: float
    by: str  # what is in a row
    rows: tuple[CostRow, ...]
    whole: CostRow
    per_hour: str  # what the workers of this moment cost in an hour
    ground: str  # why there are no costs; "": there are


class Moment(msgspec.Struct, frozen=True):
    """Why something was as it was at a past time."""

    about: str
    at_s: float
    answer: str
    endpoint: str
    endpoint_answer: str  # why its endpoint was as it was
    chart: ChartPoint | None
    decisions: tuple[DecisionRow, ...]  # the last ones about it until then
