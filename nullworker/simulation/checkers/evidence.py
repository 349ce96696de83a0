"""What the engine was known, and what it promised, noted from outside: nothing else may excuse what it does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.commands import Create, Destroy, Grant, Note, Start, Stop
from nullworker.core.parameters import EndpointState
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.process import Process, Session
    from nullworker.simulation.truth import Truth


RAN_OUT = "it ran out"
_OPERATORS = (events.EndpointPut, events.EndpointDeleted, events.WorkergroupDeleted, events.WorkersUpdated)
#: Of one worker's grants so many are kept; of more, those that are closed are forgotten.
GRANTS_KEPT = 4


@dataclass(slots=True, eq=False)
class GrantRecord:
    """A worker promised to a request."""

    request_idx: int
    worker_id: int
    answered_at: float  # the last time, by the latest that the engine had read of its clock
    usable_until: float  # by the world's clock
    confirmed: bool = False  # a report listed it
    used: bool = False  # its client truly had a session by it, whether the engine knows or not
    closed: str = ""  # why it binds no longer


@dataclass(slots=True, eq=False)
class KnownWorker:
    """What the engine was told of one worker."""

    endpoint_id: int
    workergroup_id: int
    created_at: float  # or started again
    heard_at: float = -math.inf  # by the engine's clock: the last report delivered
    process: Process | None = None  # the newest that reported
    snapshot: int = 0  # its newest report
    came_at: float = -math.inf  # when that came, by the world's clock
    listed: frozenset[int] = frozenset()  # what that report listed
    left: frozenset[int] = frozenset()  # of these, sessions beside which their own request was refused: no grant's now
    #: When the latest refusal of a request was entered that its newest process told.
    refused_at: dict[int, float] = field(default_factory=dict)
    error: bool = False
    ended: bool = False  # an exit was announced, or two lists showed it as ended or not at all
    exited: bool = False  # its exit was announced, and no report came since
    ended_lists: int = 0
    listed_as_exited: bool = False  # by the last list
    absent: bool = (
        False  # its creation failed for certain, its end was confirmed, or a list later than the lag missed it
    )
    ready: bool = False
    became_ready: bool = False  # since it was created or started
    loads_since: float = math.inf  # it was ready, and reported that it loads again
    #: Its failure was noted when there was a reason for it. It ends when it is free, whatever it has reported by then.
    noted_as_failed: bool = False
    leaving: str = ""  # what was decided: stop, destroy
    refused: int = 0
    grants: dict[int, GrantRecord] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)  # since they were last granted to it
    #: Ends that its newest process told: (request, when it came in). A report that counts fewer requests is older.
    ends: set[tuple[int, float]] = field(default_factory=set)
    ends_of: Process | None = None
    counted: int = 0  # the most requests that a report of that process told this engine of
    #: Of requests whose end it told: the process and its newest report by then. What was made before says no more.
    over: dict[int, tuple[int, int]] = field(default_factory=dict)

    def is_older(self, report: events.WorkerReported) -> bool:
        """Whether a report of `ends_of` counts less than that process was known to have received; takes note of it."""
        older = report.received < len(self.ends) or (report.seq > 0 and report.received < self.counted)
        self.counted = max(self.counted, report.received)
        return older


class Evidence(Checker):
    """Notes only; raises nothing."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.workers: dict[int, KnownWorker] = {}
        self.grants: dict[int, GrantRecord] = {}  # the last one of each request
        self.forced: set[int] = set()  # endpoints that were deleted by force
        self.known_ids: set[int] = set()  # created by us, or listed under our mark
        self._numbered: dict[int, tuple[int, float]] = {}  # a worker's highest number that this engine got, and when
        self.sign_of_life = False  # the report in hand is no more than that
        # Workers that an operator wants gone when they are free, because they are updated, or their group is deleted.
        self._updated: set[int] = set()
        self._deleted: set[int] = set()
        self._states: dict[int, EndpointState] = {}  # of endpoints, as the engine was told
        self._most: dict[int, int] = {}  # and their max_workers
        self._given: set[tuple[int, int]] = set()  # (request, worker) that were granted, or kept for a request
        self._given_now: set[tuple[int, int]] = set()  # by the event in hand
        # Sessions that ended, by worker, request and start: the process, and its newest report by then.
        self._closed: dict[tuple[int, int, float], tuple[int, int]] = {}
        # Sessions that began, by process (its boot) and request: how many reports it had made by then, and when.
        self._opened: dict[tuple[int, int], list[tuple[int, float]]] = {}
        self._leaving_now: set[int] = set()  # workers whose first order to go is of the event in hand
        self._read = -math.inf  # the latest time that this engine read: for it time stands still while a clock is back

    # ------------------------------------------------------------------------------------------------------ questions

    def open_grants(self, worker_id: int) -> list[GrantRecord]:
        """What binds the worker now, as far as the engine could know."""
        known = self.workers.get(worker_id)
        if known is None:
            return []
        return [grant for grant in known.grants.values() if self.binds(grant)]

    def binds(self, grant: GrantRecord) -> bool:
        """Whether nothing that the engine was told, and no lapse of time, has freed it from the grant."""
        if grant.closed:
            return False
        runs_out = grant.answered_at + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
        if not grant.confirmed and self.truth.clock >= max(runs_out, self.truth.away_until + limits.GRANT_REPORT_S):
            grant.closed = RAN_OUT
        return not grant.closed

    def silence_s(self, worker_id: int) -> float:
        """For how long the engine has heard nothing of the worker while it could have, by its clock."""
        known = self.workers[worker_id]
        return self.truth.clock - max(known.heard_at, known.created_at)

    def believed_dead(self, worker_id: int) -> bool:
        """Whether the engine was told that the worker ended, or may conclude it from its silence."""
        known = self.workers.get(worker_id)
        return known is None or known.ended or self.silence_s(worker_id) >= limits.SILENCE_FAILS_HELD_S

    def failed(self, worker_id: int) -> bool:
        """The same, or it told of an error of its own. What it holds may be well all the same."""
        return self.believed_dead(worker_id) or self.workers[worker_id].error

    def was_given(self, request_idx: int, worker_id: int) -> bool:
        """Whether the request was granted the worker, or the worker kept for it, before the event in hand."""
        return (request_idx, worker_id) in self._given

    def lists(self, worker_id: int, request_idx: int) -> bool:
        """Whether the worker's newest report listed the request's session."""
        known = self.workers.get(worker_id)
        return known is not None and request_idx in known.listed

    def was_ordered(self, worker_id: int) -> bool:
        """Whether the worker's creation was decided before the event in hand: to order it again makes no new one."""
        return worker_id in self.truth.stored_workers or worker_id in self.truth.instances_ever

    def may_end(self, engine: Engine, event: events.Event, worker_id: int, silence_s: float) -> bool:
        """Whether what is known in the world is a reason to stop or destroy a worker at once.

        Args:
            engine: the engine that decided it.
            event: the event at which it did.
            worker_id: the worker that is to go.
            silence_s: for so long it must have been silent, for its silence to be the reason.
        """
        known = self.workers.get(worker_id)
        if known is None or worker_id not in engine.state.workers:
            return True  # made by another engine, or not known to this one: P9 looks at those
        endpoint = engine.state.endpoints.get(known.endpoint_id)
        return (
            isinstance(event, _OPERATORS)
            or worker_id in self._updated
            or worker_id in self._deleted
            or bool(known.leaving and worker_id not in self._leaving_now)
            or known.noted_as_failed
            or self._has_failed(worker_id, known, silence_s)
            or self._states.get(known.endpoint_id) is EndpointState.STOPPED
            or (endpoint is not None and endpoint.existing > self._most.get(known.endpoint_id, 0))
        )

    def _has_failed(self, worker_id: int, known: KnownWorker, silence_s: float) -> bool:
        group = self.truth.workergroups.get(known.workergroup_id)
        boot_timeout_s = group.boot_timeout_s if group is not None else 0.0
        return (
            self.failed(worker_id)
            or known.listed_as_exited
            or known.refused >= limits.REFUSALS_MAX
            or self.silence_s(worker_id) >= silence_s
            or (not known.became_ready and self.truth.clock - known.created_at >= boot_timeout_s)
            or self.truth.clock - known.loads_since >= boot_timeout_s
        )

    # ----------------------------------------------------------------------------------------------------------- told

    def _says_something(self, report: events.WorkerReported, *, is_newest: bool) -> bool:
        """Whether a report is more than a sign of life.

        One without a number, of a worker that numbers, may be as old as the framework sends a message again.
        """
        highest, came_at = self._numbered.get(report.worker_id, (0, -math.inf))
        if report.seq > highest and is_newest:  # else a later one has overtaken it
            self._numbered[report.worker_id] = (report.seq, self.truth.clock)
        if report.seq or came_at == -math.inf:
            return True
        engine = self.truth.engine
        listening_since = engine.state.listening.since if engine is not None else self.truth.clock
        return self.truth.clock >= max(came_at, listening_since) + limits.RESEND_S

    def engine_started(self) -> None:
        self._read = -math.inf
        stored = self.truth.stored_workers
        self._numbered = {worker_id: (0, self.truth.clock) for worker_id, row in stored.items() if row.numbered}
        for known in self.workers.values():
            known.exited = False  # the engine that was told may be gone, and need not have written it down
            known.noted_as_failed = False  # nor this: the next asks it like the others
            known.counted = 0
            for request_idx, grant in known.grants.items():
                row = self.truth.stored_reservations.get(request_idx)
                if row is None or not row.confirmed:
                    grant.confirmed = False  # the same of a session: this engine has to be told of it again

    def ledger_lost(self) -> None:
        self._given.clear()
        for known in self.workers.values():
            known.ends.clear()  # one that is told again is news
            for request_idx in known.grants:
                self._close(known, request_idx, "the engine's ledger was lost")

    def engine_pauses(self) -> None:
        for known in self.workers.values():
            for grant in known.grants.values():
                self.binds(grant)  # one that has run out by now is not open again when the engine goes on

    def told(self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int) -> None:
        known = self.workers.get(message.worker_id)
        if known is None:
            return
        if known.ends_of is None or known.ends_of.boot < process.boot:
            known.ends_of, known.counted = process, 0
            known.ends.clear()
            known.refused_at.clear()
        if isinstance(message, events.RequestsFinished):
            self._told_of_ends(known, message, process)
            return
        self.sign_of_life = False
        if known.ends_of is process and known.is_older(message):
            return
        newest = known.process is None or (process.boot, snapshot) > (known.process.boot, known.snapshot)
        self.sign_of_life = not self._says_something(message, is_newest=newest)
        if self.sign_of_life:
            known.heard_at = self.truth.clock
            known.absent = known.exited = False
            known.ended_lists = 0
            return
        if known.process is not None and (process.boot, snapshot) <= (known.process.boot, known.snapshot):
            if process.boot < known.process.boot:
                self._spent(known, message.request_idxs)
            return
        # A process makes a report when the one before it in the same stream has arrived.
        streams = 2 if process.kind.prompt and not message.seq else 1
        made_after = known.came_at if known.process is process and streams == 1 else -math.inf
        known.process, known.snapshot, known.came_at = process, snapshot, self.truth.now
        known.heard_at = self.truth.clock
        known.absent = known.exited = False
        known.ended_lists = 0
        known.error = known.error or bool(message.error)
        if message.ready:
            known.loads_since = math.inf
        elif known.ready:
            known.loads_since = self.truth.clock
        known.ready = message.ready
        known.became_ready = known.became_ready or message.ready
        known.listed = frozenset(
            idx
            for idx in message.request_idxs
            if idx not in known.finished and (process.boot, snapshot) > known.over.get(idx, (0, 0))
        )
        known.left = frozenset(
            idx
            for idx in known.listed & known.refused_at.keys()
            if self._opened_at(process, idx, snapshot) < known.refused_at[idx]
        )
        for request_idx, grant in known.grants.items():
            if request_idx in known.listed:
                grant.confirmed = grant.confirmed or request_idx not in known.left
            elif grant.confirmed:
                self._close(known, request_idx, "its worker listed it no longer")
            elif process.kind.checks_grants and made_after > grant.usable_until:
                self._close(known, request_idx, "its worker did not list it when it could be used no longer")
            elif len(known.listed) >= process.kind.sessions_max:
                self._close(known, request_idx, "its worker holds another")

    def _told_of_ends(self, known: KnownWorker, message: events.RequestsFinished, process: Process) -> None:
        for request in message.requests:
            attempt = (request.request_idx, request.entered_at)
            if known.ends_of is process and attempt in known.ends:
                continue  # told before, be it to an engine before this one: it says nothing of a grant since
            if known.ends_of is process:
                known.ends.add(attempt)
            self._close(known, request.request_idx, f"its worker said {request.status}")
            known.listed -= {request.request_idx}
            closed = self._closed.get((message.worker_id, request.request_idx, request.entered_at), (0, 0))
            known.over[request.request_idx] = max(closed, known.over.get(request.request_idx, closed))
            known.finished.add(request.request_idx)
            if request.status == "Rejected":
                known.refused += 1
                known.refused_at[request.request_idx] = max(
                    request.entered_at, known.refused_at.get(request.request_idx, -math.inf)
                )

    def _opened_at(self, process: Process, request_idx: int, snapshot: int) -> float:
        """When the session began that the process's report of this number lists for the request."""
        opened = self._opened.get((process.boot, request_idx), ())
        return max((at for snapshots, at in opened if snapshots < snapshot), default=math.inf)

    def _spent(self, known: KnownWorker, listed: tuple[int, ...]) -> None:
        """A process that is over had these sessions: a grant that was used for one there is not used again."""
        for request_idx in listed:
            if request_idx in known.grants and known.grants[request_idx].used:
                self._close(known, request_idx, "it was used in a process that is over")

    @staticmethod
    def _close(known: KnownWorker, request_idx: int, why: str) -> None:
        grant = known.grants.get(request_idx)
        if grant is not None and not grant.closed:
            grant.closed = why

    def _ended(self, known: KnownWorker, why: str) -> None:
        known.ended = True
        for request_idx in known.grants:
            self._close(known, request_idx, why)

    def session_opened(self, process: Process, session: Session) -> None:
        key = (process.boot, session.request_idx)
        self._opened.setdefault(key, []).append((process.snapshots, session.opened_at))
        known = self.workers.get(process.worker_id)
        if known is not None and session.request_idx in known.grants:
            known.grants[session.request_idx].used = True

    def session_closed(self, process: Process, session: Session, why: str) -> None:  # noqa: ARG002 - a hook
        key = (process.worker_id, session.request_idx, session.opened_at)
        self._closed[key] = (process.boot, process.snapshots)

    def told_of_exit(self, worker_id: int) -> None:
        if worker_id in self.workers:
            self.workers[worker_id].exited = True
            self._ended(self.workers[worker_id], "its instance ended")

    def told_of_list(self, asked_at: float, shown: tuple[tuple[int, str], ...]) -> None:
        states = dict(shown)
        self.known_ids.update(states)
        for worker_id, known in self.workers.items():
            state = states.get(worker_id)
            known.listed_as_exited = state == "exited"
            if state is None and asked_at > known.created_at + limits.LIST_LAG_S:
                known.absent = True
            if state in (None, "exited", "stopped") and self.silence_s(worker_id) > 0:
                known.ended_lists += 1
                if known.ended_lists >= 2 or state is None:
                    self._maybe_ended(worker_id, known)

    def _maybe_ended(self, worker_id: int, known: KnownWorker) -> None:
        if self.silence_s(worker_id) >= limits.UNRESPONSIVE_AFTER_S or known.ended_lists >= 2:
            self._ended(known, "its fleet's list shows it no more")

    # -------------------------------------------------------------------------------------------------------- decided

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        self._given |= self._given_now
        self._given_now, self._leaving_now = set(), set()
        self._read = max(self._read, self.truth.clock)
        self._operated(event)
        if isinstance(event, (events.InstanceGone, events.InstanceFailed)):
            known = self.workers.get(event.worker_id)
            if known is not None:
                if isinstance(event, events.InstanceGone) or (event.verb == "create" and event.definite):
                    known.absent = True
                    self._ended(known, "it is gone")
                elif event.verb == "start":
                    self._ended(known, "it could not be started")
        for command in decided:
            if isinstance(command, Grant):
                self._granted(command)
            elif isinstance(command, Create):
                group_id = command.workergroup_id
                endpoint_id = engine.state.workergroups[group_id].spec.endpoint_id
                if command.worker_id not in self.workers:
                    self.workers[command.worker_id] = KnownWorker(endpoint_id, group_id, self.truth.clock)
                self.known_ids.add(command.worker_id)
            elif isinstance(command, (Stop, Destroy)):
                known = self.workers.get(command.worker_id)
                if known is not None:
                    if not known.leaving:
                        self._leaving_now.add(command.worker_id)
                    known.leaving = type(command).__name__.lower()
            elif isinstance(command, Start):
                known = self.workers[command.worker_id]
                known.leaving, known.ended, known.exited, known.error = "", False, False, False
                known.created_at, known.process = self.truth.clock, None
                known.became_ready = known.listed_as_exited = known.noted_as_failed = False
            elif isinstance(command, Note) and command.kind == "grant_kept":
                self._given_now.add((command.request_idx, command.worker_id))
            elif isinstance(command, Note) and command.kind == "grant_expired":
                self._expired(command.request_idx)
            elif isinstance(command, Note) and command.kind in ("worker_failed", "session_lost"):
                known = self.workers.get(command.worker_id)
                if known is not None:
                    self._noted_failed(known, command)

    def _noted_failed(self, known: KnownWorker, note: Note) -> None:
        if note.kind == "worker_failed":
            known.noted_as_failed = self._has_failed(note.worker_id, known, limits.SILENCE_FAILS_S)
        if self.failed(note.worker_id):
            for request_idx in known.grants:
                self._close(known, request_idx, "its worker failed")

    def _operated(self, event: events.Event) -> None:
        """Takes note of what operators want."""
        if isinstance(event, events.EndpointPut):
            self._states[event.endpoint_id] = event.parameters.state
            self._most[event.endpoint_id] = event.parameters.max_workers
        elif isinstance(event, events.EndpointDeleted):
            if event.force:
                self.forced.add(event.endpoint_id)
            self._deleted |= {i for i, known in self.workers.items() if known.endpoint_id == event.endpoint_id}
        elif isinstance(event, (events.WorkergroupDeleted, events.WorkersUpdated)):
            mine = {i for i, known in self.workers.items() if known.workergroup_id == event.workergroup_id}
            if isinstance(event, events.WorkergroupDeleted):
                self._deleted |= mine
            elif event.cancel:
                self._updated -= mine
            else:
                self._updated |= mine

    def _expired(self, request_idx: int) -> None:
        """The engine says that a grant ran out; if it did, it binds no longer."""
        grant = self.grants.get(request_idx)
        if grant is not None and not grant.confirmed:
            lapse_s = limits.GRANT_TTL_S + limits.GRANT_REPORT_S
            if self.truth.clock >= grant.answered_at + lapse_s - 0.001 and not grant.closed:
                grant.closed = RAN_OUT

    def _granted(self, grant: Grant) -> None:
        self._given_now.add((grant.request_idx, grant.worker_id))
        known = self.workers.setdefault(grant.worker_id, KnownWorker(0, 0, self.truth.clock))
        before = known.grants.get(grant.request_idx)
        record = GrantRecord(
            grant.request_idx,
            grant.worker_id,
            self._read,
            self.truth.now + grant.expires_in_s,
            confirmed=before is not None and before.confirmed and not before.closed,
        )
        # A report to an engine that was killed before it wrote that down says nothing to this one.
        was_told = known.came_at >= self.truth.started_at and grant.request_idx in known.listed - known.left
        record.confirmed = record.confirmed or was_told
        known.grants[grant.request_idx] = record
        known.finished.discard(grant.request_idx)
        self.grants[grant.request_idx] = record
        if len(known.grants) > GRANTS_KEPT:
            for request_idx, old in list(known.grants.items()):
                if old.closed:
                    del known.grants[request_idx]
