"""A simulated worker process. It does what the framework's does: looks every second whether there is something to
report, reports at least every 10 s, tries three times 2 s apart, collects expired sessions every 5 s, and refuses what
is one reservation too many. A Null PyWorker besides reports at once, gives the same session for the same request, and
refuses grants that have run out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nullworker.core.events import Finished, RequestsFinished, WorkerReported
from nullworker.simulation.network import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.context import Context

TICK_S = 1.0
HEARTBEAT_S = 10.0
SWEEP_S = 5.0
RETRY_S = 2.0
TIMEOUT_S = 10.0
ATTEMPTS = 3
#: Each process numbers its reports from beyond those of the one before.
NUMBERS_APART = 1_000_000


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """What kind of worker it is."""

    prompt: bool = True  # reports at once when a session opens or closes, and numbers its reports
    repeats: bool = True  # the same request again gets the same session
    checks_grants: bool = True  # refuses a grant that has run out
    perf: float = 100.0
    sessions_max: int = 1


class Holder(Protocol):
    """Whose session it is."""

    def session_closed(self, why: str) -> None:
        """The session ended."""


@dataclass(slots=True, eq=False)
class Session:
    """A session as it really is."""

    request_idx: int
    client: Holder | None
    cost: float
    opened_at: float
    lifetime_s: float
    expires_at: float = math.inf  # while its client keeps it alive
    by_old_grant: bool = False  # opened with a grant that had run out


class ProcessLinks(NamedTuple):
    """Where a process's messages go, and who is told of what it does."""

    says: Callable[[WorkerReported | RequestsFinished, Process, int], bool]  # to the engine; whether it took it
    opened: Callable[[Process, Session], None]
    closed: Callable[[Process, Session, str], None]


class Process:
    """One boot of one worker.

    Args:
        context: the world's.
        links: where its messages go.
        worker_id: whose process it is.
        kind: what kind of worker it is.
        boot: the number of this boot, of all boots of the world.
    """

    __slots__ = (
        "_changed",
        "_finished",
        "_later_at",
        "_look_at",
        "_phase",
        "_reported_at",
        "_sending",
        "_sending_finished",
        "alive",
        "boot",
        "context",
        "error",
        "flaps_until",
        "hung_until",
        "kind",
        "links",
        "mute_until",
        "ready",
        "ready_at",
        "received",
        "sessions",
        "snapshots",
        "url",
        "worker_id",
    )

    def __init__(self, context: Context, links: ProcessLinks, worker_id: int, kind: WorkerKind, boot: int) -> None:
        self.context = context
        self.links = links
        self.worker_id = worker_id
        self.kind = kind
        self.url = f"http://worker-{worker_id}"
        self.sessions: dict[int, Session] = {}
        self.alive = True
        self.ready = False
        self.ready_at: float | None = None
        self.error = ""
        self.mute_until = self.hung_until = self.flaps_until = 0.0
        self.boot = boot
        self.received = self.snapshots = 0
        self._finished: list[Finished] = []
        self._changed = True
        self._sending = self._sending_finished = False
        self._reported_at = -math.inf
        self._look_at = math.inf
        self._later_at = math.inf  # the queue has a look at this time, which leads to the one that is planned
        self._phase = context.random.random()

    @property
    def untold_ends(self) -> bool:
        """Whether a session has ended of which the engine was not told yet."""
        return bool(self._finished)

    # ---------------------------------------------------------------------------------------------------------- life

    def begin(self) -> None:
        """The process runs, and loads."""
        self.look_soon()

    def get_ready(self) -> None:
        """It has loaded."""
        if self.alive and not self.ready:
            self.ready, self.ready_at = True, self.context.now
            self.changed()

    def die(self, why: str) -> None:
        """The process ends, and what it held with it."""
        if self.alive:
            self.alive = False
            for session in list(self.sessions.values()):
                self._close(session, why)

    def break_down(self, message: str) -> None:
        """Its health check fails: it says so from now on, and serves on."""
        if self.alive and not self.error:
            self.error = message
            self.changed()

    @property
    def answers(self) -> bool:
        """Whether it answers calls now."""
        return self.alive and self.hung_until <= self.context.now

    # ------------------------------------------------------------------------------------------------------ sessions

    def create(self, client: Holder, request_idx: int, cost: float, lifetime_s: float, grant_expires_at: float) -> int:
        """Opens a session: 201, or 401 (the grant has run out), 429 (no room), 503 (not ready)."""
        if not self.ready:
            return 503
        if request_idx in self.sessions and self.kind.repeats:
            return 201
        late = self.context.now > grant_expires_at
        if late and self.kind.checks_grants:
            return 401
        self.received += 1
        if len(self.sessions) >= self.kind.sessions_max:
            self._finished.append(Finished(request_idx, "Rejected", self.context.now))
            self.changed()
            return 429
        session = Session(request_idx, client, cost, self.context.now, lifetime_s, by_old_grant=late)
        self.sessions[request_idx] = session
        self.links.opened(self, session)
        self.changed()
        return 201

    def end(self, request_idx: int) -> bool:
        """Closes a session; False if there is none (any more)."""
        session = self.sessions.get(request_idx)
        if session is None:
            return False
        self._close(session, "ended")
        return True

    def left_alone(self, request_idx: int) -> None:
        """Nobody keeps the session alive any more: it runs out, and is collected by the next sweep."""
        session = self.sessions.get(request_idx)
        if session is not None:
            session.client = None
            session.expires_at = self.context.now + session.lifetime_s
            sweep = math.ceil(session.expires_at / SWEEP_S) * SWEEP_S
            self.context.queue.at(sweep, self._sweep, session)

    def _sweep(self, session: Session) -> None:
        if self.sessions.get(session.request_idx) is session and session.expires_at <= self.context.now:
            self._close(session, "expired")

    def _close(self, session: Session, why: str) -> None:
        del self.sessions[session.request_idx]
        self._finished.append(Finished(session.request_idx, "Success", session.opened_at))
        self.links.closed(self, session, why)
        self.changed()

    # ------------------------------------------------------------------------------------------------------- reports

    def changed(self) -> None:
        """There is something to report."""
        self._changed = True
        self.look_soon()

    def look_soon(self) -> None:
        """Looks at once (a prompt one), or with the next tick, whether there is something to report."""
        now = self.context.now
        self._plan(now if self.kind.prompt else self._tick_after(now))

    def _tick_after(self, when: float) -> float:
        return math.floor(when - self._phase) + 1.0 + self._phase

    def _plan(self, when: float) -> None:
        if not self.alive or when >= self._look_at:
            return
        self._look_at = when
        if when > self.context.now:
            if self._later_at <= when:
                return
            self._later_at = when
        self.context.queue.at(when, self._look, when)

    def _look(self, planned: float) -> None:
        later = planned == self._later_at
        if later:
            self._later_at = math.inf
        if planned != self._look_at:
            if later and self._look_at < math.inf:
                planned, self._look_at = self._look_at, math.inf
                self._plan(planned)
            return
        self._look_at = math.inf
        now = self.context.now
        if not self.alive:
            return
        silent_until = max(self.mute_until, self.hung_until)
        if silent_until > now:
            self._plan(self._tick_after(silent_until))
            return
        if self._finished and not self._sending_finished:
            self._sending_finished = True
            self._send_finished(tuple(self._finished), 1)
        if not self._sending and (self._changed or now - self._reported_at >= HEARTBEAT_S):
            self._sending, self._changed = True, False
            self.snapshots += 1
            self._send(self._report(), self.snapshots, 1)
        self._plan(self._tick_after(now + HEARTBEAT_S - TICK_S))

    def _report(self) -> WorkerReported:
        ready = self.ready and self.flaps_until <= self.context.now
        perf = self.kind.perf if self.ready else 0.0
        load = sum(session.cost for session in self.sessions.values())
        idxs = tuple(self.sessions)
        faults, random = self.context.faults, self.context.random
        if faults.nonsense and random.random() < 0.1 * faults.nonsense:
            perf = random.choice([math.nan, math.inf, -1.0, 0.0])
            load = random.choice([math.nan, -math.inf, 1e308, -5.0])
        return WorkerReported(
            self.worker_id,
            self.url,
            ready,
            self.error,
            perf,
            load,
            idxs,
            self.received,
            self.boot * NUMBERS_APART + self.snapshots if self.kind.prompt else 0,
            self.boot + 0.25 if self.ready else 0.0,
        )

    def _send(self, report: WorkerReported, snapshot: int, attempt: int) -> None:
        network, faults, random = self.context.network, self.context.faults, self.context.random
        sent = network.send(Link.WORKER_ENGINE, self._arrive, report, snapshot, attempt)
        if not sent:
            self.context.queue.after(TIMEOUT_S + RETRY_S, self._again, report, snapshot, attempt)
        elif faults.duplicate and random.random() < 0.5 * faults.duplicate:
            network.send(Link.WORKER_ENGINE, self.links.says, report, self, snapshot)
        if faults.stale and random.random() < 0.1 * faults.stale:
            self.context.queue.after(random.uniform(3, 25), self.links.says, report, self, snapshot)

    def _arrive(self, report: WorkerReported, snapshot: int, attempt: int) -> None:
        if not self.links.says(report, self, snapshot):
            self.context.queue.after(RETRY_S, self._again, report, snapshot, attempt)
        elif self.context.network.answer_is_lost(Link.WORKER_ENGINE):
            self.context.queue.after(TIMEOUT_S + RETRY_S, self._again, report, snapshot, attempt)
        else:
            self._sending = False
            self._reported_at = self.context.now
            if self._changed:
                self.look_soon()

    def _again(self, report: WorkerReported, snapshot: int, attempt: int) -> None:
        if not self.alive:
            return
        if attempt < ATTEMPTS and max(self.mute_until, self.hung_until) <= self.context.now:
            self._send(report, snapshot, attempt + 1)
        else:
            self._sending = False
            self.changed()

    def _send_finished(self, requests: tuple[Finished, ...], attempt: int) -> None:
        if not self.context.network.send(Link.WORKER_ENGINE, self._finished_arrive, requests, attempt):
            self.context.queue.after(TIMEOUT_S + RETRY_S, self._finished_again, requests, attempt)

    def _finished_arrive(self, requests: tuple[Finished, ...], attempt: int) -> None:
        taken = self.links.says(RequestsFinished(self.worker_id, requests), self, 0)
        if taken and not self.context.network.answer_is_lost(Link.WORKER_ENGINE):
            self._finished = [request for request in self._finished if request not in requests]
            self._sending_finished = False
            if self._finished:
                self.look_soon()
        else:
            pause_s = TIMEOUT_S + RETRY_S if taken else RETRY_S
            self.context.queue.after(pause_s, self._finished_again, requests, attempt)

    def _finished_again(self, requests: tuple[Finished, ...], attempt: int) -> None:
        if not self.alive:
            return
        if attempt < ATTEMPTS and max(self.mute_until, self.hung_until) <= self.context.now:
            self._send_finished(requests, attempt + 1)
        else:
            self._sending_finished = False
            self.look_soon()
