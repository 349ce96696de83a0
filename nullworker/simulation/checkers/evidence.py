"""What the engine was told, and what it promised, noted from outside: nothing else may excuse what it does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.commands import Create, Destroy, Grant, Note, Start, Stop
from nullworker.simulation.watch import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.process import Process
    from nullworker.simulation.world import World


RAN_OUT = "it ran out"
#: Of one worker's promises so many are kept; of more, those that are closed are forgotten.
PROMISES_KEPT = 4


@dataclass(slots=True, eq=False)
class Promise:
    """A worker promised to a request."""

    request_idx: int
    worker_id: int
    answered_at: float  # by the engine's clock, the last time
    usable_until: float  # by the world's clock
    confirmed: bool = False  # a report listed it
    closed: str = ""  # why it binds no longer


@dataclass(slots=True, eq=False)
class Told:
    """What the engine was told of one worker."""

    endpoint_id: int
    created_at: float
    heard_at: float = -math.inf  # by the engine's clock: the last report delivered
    process: Process | None = None  # the newest that reported
    snapshot: int = 0  # its newest report
    came_at: float = -math.inf  # when that came, by the world's clock
    listed: frozenset[int] = frozenset()  # what that report listed
    error: bool = False
    ended: bool = False  # an exit was announced, or two lists showed it as ended or not at all
    exited: bool = False  # its exit was announced, and nothing was heard of it since
    ended_lists: int = 0
    absent: bool = (
        False  # its creation failed for certain, its end was confirmed, or a list later than the lag missed it
    )
    ready: bool = False
    leaving: str = ""  # what was decided: stop, destroy
    refused: int = 0
    promises: dict[int, Promise] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)  # since they were last granted to it


class Evidence(Checker):
    """Notes only; raises nothing."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.workers: dict[int, Told] = {}
        self.promises: dict[int, Promise] = {}  # the last one of each request
        self.forced: set[int] = set()  # endpoints that were deleted by force
        self.known_ids: set[int] = set()  # created by us, or listed under our mark

    # ------------------------------------------------------------------------------------------------------ questions

    def open_promises(self, worker_id: int) -> list[Promise]:
        """What binds the worker now, as far as the engine could know."""
        told = self.workers.get(worker_id)
        if told is None:
            return []
        return [promise for promise in told.promises.values() if self.binds(promise)]

    def binds(self, promise: Promise) -> bool:
        """Whether nothing that the engine was told, and no lapse of time, has freed it from the promise."""
        if promise.closed:
            return False
        box = self.world.box
        runs_out = promise.answered_at + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
        if not promise.confirmed and box.clock >= max(runs_out, box.away_until + limits.GRANT_REPORT_S):
            promise.closed = RAN_OUT
        return not promise.closed

    def silence_s(self, worker_id: int) -> float:
        """For how long the engine has heard nothing of the worker while it could have, by its clock."""
        told = self.workers[worker_id]
        return self.world.box.clock - max(told.heard_at, told.created_at)

    def believed_dead(self, worker_id: int) -> bool:
        """Whether the engine was told that the worker ended, or may conclude it from its silence."""
        told = self.workers.get(worker_id)
        return told is None or told.ended or self.silence_s(worker_id) >= limits.SILENCE_FAILS_HELD_S

    def failed(self, worker_id: int) -> bool:
        """The same, or it told of an error of its own. What it holds may be well all the same."""
        return self.believed_dead(worker_id) or self.workers[worker_id].error

    # ----------------------------------------------------------------------------------------------------------- told

    def engine_started(self) -> None:
        for told in self.workers.values():
            told.exited = False  # who was told may be gone, and need not have written it down

    def engine_pauses(self) -> None:
        for told in self.workers.values():
            for promise in told.promises.values():
                self.binds(promise)  # one that has run out by now is not open again when the engine goes on

    def told(self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int) -> None:
        told = self.workers.get(message.worker_id)
        if told is None:
            return
        if isinstance(message, events.RequestsFinished):
            for request in message.requests:
                self._close(told, request.request_idx, f"its worker said {request.status}")
                told.listed -= {request.request_idx}
                told.finished.add(request.request_idx)
                told.refused += request.status == "Rejected"
            return
        if told.process is not None and (process.boot, snapshot) <= (told.process.boot, told.snapshot):
            return
        # A process makes a report when the one before has arrived.
        made_after = told.came_at if told.process is process else -math.inf
        told.process, told.snapshot, told.came_at = process, snapshot, self.world.now
        told.heard_at = self.world.box.clock
        told.absent = told.exited = False
        told.ended_lists = 0
        told.error = told.error or bool(message.error)
        told.ready = message.ready
        told.listed = frozenset(idx for idx in message.request_idxs if idx not in told.finished)
        for request_idx, promise in told.promises.items():
            if request_idx in told.listed:
                promise.confirmed = True
            elif promise.confirmed:
                self._close(told, request_idx, "its worker listed it no longer")
            elif process.traits.checks_grants and made_after > promise.usable_until:
                self._close(told, request_idx, "its worker did not list it when it could be used no longer")
            elif len(told.listed) >= process.traits.sessions_max:
                self._close(told, request_idx, "its worker holds another")

    @staticmethod
    def _close(told: Told, request_idx: int, why: str) -> None:
        promise = told.promises.get(request_idx)
        if promise is not None and not promise.closed:
            promise.closed = why

    def _ended(self, told: Told, why: str) -> None:
        told.ended = True
        for request_idx in told.promises:
            self._close(told, request_idx, why)

    def told_of_exit(self, worker_id: int) -> None:
        if worker_id in self.workers:
            self.workers[worker_id].exited = True
            self._ended(self.workers[worker_id], "its instance ended")

    def told_of_list(self, asked_at: float, shown: tuple[tuple[int, str], ...]) -> None:
        states = dict(shown)
        self.known_ids.update(states)
        for worker_id, told in self.workers.items():
            state = states.get(worker_id)
            if state is None and asked_at > told.created_at + limits.LIST_LAG_S:
                told.absent = True
            if state in (None, "exited", "stopped") and self.silence_s(worker_id) > 0:
                told.ended_lists += 1
                if told.ended_lists >= 2 or state is None:
                    self._maybe_ended(worker_id, told)

    def _maybe_ended(self, worker_id: int, told: Told) -> None:
        if self.silence_s(worker_id) >= limits.UNRESPONSIVE_AFTER_S or told.ended_lists >= 2:
            self._ended(told, "its fleet's list shows it no more")

    # -------------------------------------------------------------------------------------------------------- decided

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if isinstance(event, (events.InstanceGone, events.InstanceFailed)):
            told = self.workers.get(event.worker_id)
            if told is not None:
                if isinstance(event, events.InstanceGone) or (event.verb == "create" and event.definite):
                    told.absent = True
                    self._ended(told, "it is gone")
                elif event.verb == "start":
                    self._ended(told, "it could not be started")
        elif isinstance(event, events.EndpointDeleted) and event.force:
            self.forced.add(event.endpoint_id)
        for command in decided:
            if isinstance(command, Grant):
                self._granted(command)
            elif isinstance(command, Create):
                endpoint_id = engine.state.workergroups[command.workergroup_id].spec.endpoint_id
                if command.worker_id not in self.workers:
                    self.workers[command.worker_id] = Told(endpoint_id, self.world.box.clock)
                self.known_ids.add(command.worker_id)
            elif isinstance(command, (Stop, Destroy)):
                told = self.workers.get(command.worker_id)
                if told is not None:
                    told.leaving = type(command).__name__.lower()
            elif isinstance(command, Start):
                told = self.workers[command.worker_id]
                told.leaving, told.ended, told.exited, told.error = "", False, False, False
                told.created_at, told.process = self.world.box.clock, None
            elif isinstance(command, Note) and command.kind == "grant_expired":
                self._expired(command.request_idx)
            elif isinstance(command, Note) and command.kind in ("worker_failed", "session_lost"):
                told = self.workers.get(command.worker_id)
                if told is not None and self.failed(command.worker_id):
                    for request_idx in told.promises:
                        self._close(told, request_idx, "its worker failed")

    def _expired(self, request_idx: int) -> None:
        """The engine says that a grant ran out; if it did, it binds no longer."""
        promise = self.promises.get(request_idx)
        if promise is not None and not promise.confirmed:
            lapse_s = limits.GRANT_TTL_S + limits.GRANT_REPORT_S
            if self.world.box.clock >= promise.answered_at + lapse_s - 0.001 and not promise.closed:
                promise.closed = RAN_OUT

    def _granted(self, grant: Grant) -> None:
        told = self.workers.setdefault(grant.worker_id, Told(0, self.world.box.clock))
        before = told.promises.get(grant.request_idx)
        promise = Promise(
            grant.request_idx,
            grant.worker_id,
            self.world.box.clock,
            self.world.now + grant.expires_in_s,
            confirmed=before is not None and before.confirmed and not before.closed,
        )
        promise.confirmed = promise.confirmed or grant.request_idx in told.listed
        told.promises[grant.request_idx] = promise
        told.finished.discard(grant.request_idx)
        self.promises[grant.request_idx] = promise
        if len(told.promises) > PROMISES_KEPT:
            for request_idx, old in list(told.promises.items()):
                if old.closed:
                    del told.promises[request_idx]
