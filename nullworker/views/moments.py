"""Why something was as it was at a past time, from what was written down then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from nullworker.views.history import GONE
from nullworker.views.text import clock, duration
from nullworker.views.types import ChartPoint, Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.views.history import Change
    from nullworker.views.types import DecisionRow

#: Decisions before the moment that are given.
DECISIONS_GIVEN = 20
#: An engine that runs writes something of each endpoint more often than this.
SILENT_S = 180.0


class MomentLike(Protocol):
    """An endpoint at one time, as it was written down."""

    @property
    def at_s(self) -> float:
        """When."""

    @property
    def waiting(self) -> int:
        """How many waited."""

    @property
    def held(self) -> int:
        """How many workers were held."""

    @property
    def up(self) -> int:
        """How many were free or held."""

    @property
    def booting(self) -> int:
        """How many were coming up."""

    @property
    def why(self) -> str:
        """Why the first that waited had no worker; "": none waited."""

    @property
    def answer(self) -> str:
        """The endpoint in a sentence."""


class Record(Protocol):
    """What was written down (`nullworker.engine.history_file`)."""

    def last_change(self, kind: str, identity: int, at_s: float) -> Change | None:
        """The state of a worker or the stage of a reservation at a time."""

    def first_change(self, kind: str, identity: int) -> Change | None:
        """The first that is known of it."""

    def held_by(self, worker_id: int, at_s: float) -> list[Change]:
        """What a worker held at a time, each since when."""

    def line_at(self, endpoint_id: int, at_s: float) -> list[int]:
        """What waited at an endpoint at a time, first come first."""

    def moment(self, endpoint_id: int, at_s: float) -> MomentLike | None:
        """The last moment of an endpoint until a time."""


def answer_at(record: Record, kind: str, identity: int, at_s: float, decisions: Sequence[DecisionRow]) -> Moment | None:
    """Why something was as it was at a past time; None: nothing is known of it then.

    Args:
        record: what was written down.
        kind: "endpoint", "worker" or "request".
        identity: its number.
        at_s: the time, Unix.
        decisions: all that are known about it, oldest first.
    """
    before = [decision for decision in decisions if decision.at_s <= at_s][-DECISIONS_GIVEN:]
    if kind == "endpoint":
        endpoint_id, answer = identity, ""
    else:
        change = record.last_change(kind, identity, at_s)
        if change is None:
            return None
        endpoint_id = change.endpoint_id
        tell = _worker if kind == "worker" else _request
        answer = tell(record, change, at_s)
        if before:
            answer += f" Last decided before: {before[-1].kind}, {before[-1].reason.rstrip('.')}."
    moment = record.moment(endpoint_id, at_s)
    if moment is None and kind == "endpoint":
        return None
    if moment is None:
        return Moment(f"{kind} {identity}", at_s, answer, "", "", None, tuple(before))
    point = ChartPoint(moment.at_s, moment.waiting, moment.held, moment.up, moment.booting)
    told = moment.answer
    if at_s - moment.at_s > SILENT_S:
        told = f"Nothing was written down between {clock(moment.at_s)} and then, so the engine did not run. {told}"
    return Moment(f"{kind} {identity}", at_s, answer or told, "", told, point, tuple(before))


def _worker(record: Record, change: Change, at_s: float) -> str:
    if change.state == GONE:
        return f"Worker {change.id} was gone at {clock(at_s)}, since {clock(change.at_s)}."
    text = f"Worker {change.id} was {change.state} at {clock(at_s)}, for {duration(at_s - change.at_s)} by then"
    held = record.held_by(change.id, at_s)
    if held:
        text += ", and held " + " and ".join(f"request {h.id} for {duration(at_s - h.at_s)}" for h in held)
    return f"{text}."


def _request(record: Record, change: Change, at_s: float) -> str:
    subject, when = f"Request {change.id}", clock(at_s)
    lasted = duration(at_s - change.at_s)
    if change.state == "ended":
        return f"{subject} was over at {when}, since {clock(change.at_s)}."
    if change.worker_id:
        what = "held" if change.state == "session" else "had been given"
        return f"{subject} {what} worker {change.worker_id} at {when}, for {lasted} by then."
    line = record.line_at(change.endpoint_id, at_s)
    first = record.first_change("request", change.id)
    waited = duration(at_s - (first or change).at_s)
    place = f"number {line.index(change.id) + 1} of {len(line)}, " if change.id in line else ""
    moment = record.moment(change.endpoint_id, at_s)
    why = f", because {moment.why}" if moment is not None and moment.why else ""
    return f"{subject} waited at {when}, {place}for {waited} by then{why}."
