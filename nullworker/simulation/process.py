"""A simulated worker process. It does what the framework's does: looks every second whether there is something to
report, reports at least every 10 s, sends a message three times at most, collects expired sessions every 5 s, and
refuses what is one reservation too many. A Null PyWorker gives the same session for the same request, refuses grants
that have run out, and has a second stream of messages: numbered ones, sent the moment there is something to say. The
framework's own go on beside it, without a number, and may be up to 40 s old when they arrive.
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
#: Of the Null PyWorker's own stream (nullworker/worker/reports.py).
PROMPT_TIMEOUT_S = 5.0
PROMPT_RETRY_FIRST_S = 0.1
PROMPT_RETRY_MAX_S = 5.0
#: Each process numbers its reports from beyond those of the one before.
NUMBERS_APART = 1_000_000


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """What kind of worker it is."""

    prompt: bool = True  # has a second stream of reports: at once when something changes, and numbered
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
        "_finished",
        "_later_at",
        "_look_at",
        "_news",
        "_phase",
        "_prompt_busy",
        "_prompt_failures",
        "_reported_at",
        "_sending",
        "_sending_finished",
        "_update_pending",
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
        self._update_pending = True  # the framework has something to report
        self._news = False  # the prompt stream has
        self._prompt_busy = False
        self._prompt_failures = 0  # in a row
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
        """The session gets no more keepalives: it runs out, and is collected by the next sweep."""
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
        self._update_pending = True
        self.look_soon()

    def look_soon(self) -> None:
        """The framework looks with its next tick whether there is something to report, a prompt worker at once."""
        now = self.context.now
        if self.kind.prompt:
            self._news = True
            self._send_promptly()
        self._plan(self._tick_after(now))

    @property
    def _silent_until(self) -> float:
        return max(self.mute_until, self.hung_until)

    def _report(self, *, numbered: bool) -> WorkerReported:
        self.snapshots += 1
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
            self.boot * NUMBERS_APART + self.snapshots if numbered else 0,
            self.boot + 0.25 if self.ready else 0.0,
        )

    def _deliver(
        self,
        message: WorkerReported | RequestsFinished,
        snapshot: int,
        done: Callable[[bool], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Sends one message once, for at most ``timeout_s``; ``done`` is told whether it was answered."""
        network, faults, random = self.context.network, self.context.faults, self.context.random
        if not network.send(Link.WORKER_ENGINE, self._arrive, message, snapshot, timeout_s, done):
            self.context.queue.after(timeout_s, done, False)
        elif faults.duplicate and random.random() < 0.5 * faults.duplicate:
            network.send(Link.WORKER_ENGINE, self.links.says, message, self, snapshot)
        if snapshot and faults.stale and random.random() < 0.1 * faults.stale:
            self.context.queue.after(random.uniform(3, 25), self.links.says, message, self, snapshot)

    def _arrive(
        self,
        message: WorkerReported | RequestsFinished,
        snapshot: int,
        timeout_s: float,
        done: Callable[[bool], None],
    ) -> None:
        if not self.links.says(message, self, snapshot):
            done(False)
        elif self.context.network.answer_is_lost(Link.WORKER_ENGINE):
            self.context.queue.after(timeout_s, done, False)
        else:
            done(True)

    # --- the framework's own stream: no numbers, each message sent three times at most

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
        if self._silent_until > now:
            self._plan(self._tick_after(self._silent_until))
            return
        if self._finished and not self._sending_finished:
            self._sending_finished = True
            self._send_finished(tuple(self._finished), 1)
        if not self._sending and (self._update_pending or now - self._reported_at >= HEARTBEAT_S):
            self._sending, self._update_pending = True, False
            report = self._report(numbered=False)
            self._send(report, self.snapshots, 1)
        beat_at = now - TICK_S if self._sending else self._reported_at
        self._plan(self._tick_after(max(now, beat_at + HEARTBEAT_S)))

    def _send(self, report: WorkerReported, snapshot: int, attempt: int) -> None:
        self._deliver(report, snapshot, lambda taken: self._sent(report, snapshot, attempt, taken=taken))

    def _sent(self, report: WorkerReported, snapshot: int, attempt: int, *, taken: bool) -> None:
        if taken:
            self._sending = False
            self._reported_at = self.context.now
            if self._update_pending:
                self._plan(self._tick_after(self.context.now))
        else:
            self.context.queue.after(RETRY_S, self._send_again, report, snapshot, attempt)

    def _send_again(self, report: WorkerReported, snapshot: int, attempt: int) -> None:
        if not self.alive:
            return
        if attempt < ATTEMPTS and self._silent_until <= self.context.now:
            self._send(report, snapshot, attempt + 1)
        else:
            self._sending = False
            self._update_pending = True
            self._plan(self._tick_after(self.context.now))

    def _send_finished(self, requests: tuple[Finished, ...], attempt: int) -> None:
        message = RequestsFinished(self.worker_id, requests)
        self._deliver(message, 0, lambda taken: self._finished_sent(requests, attempt, taken=taken))

    def _finished_sent(self, requests: tuple[Finished, ...], attempt: int, *, taken: bool) -> None:
        if taken:
            self._forget_finished(requests)
            self._sending_finished = False
            if self._finished:
                self._plan(self._tick_after(self.context.now))
        else:
            self.context.queue.after(RETRY_S, self._finished_again, requests, attempt)

    def _finished_again(self, requests: tuple[Finished, ...], attempt: int) -> None:
        if not self.alive:
            return
        if attempt < ATTEMPTS and self._silent_until <= self.context.now:
            self._send_finished(requests, attempt + 1)
        else:
            self._sending_finished = False
            self._plan(self._tick_after(self.context.now))

    def _forget_finished(self, requests: tuple[Finished, ...]) -> None:
        self._finished = [request for request in self._finished if request not in requests]

    # --- the prompt stream of a Null PyWorker: numbered, one message at a time, composed again for each try

    def _send_promptly(self) -> None:
        if not self.alive or self._prompt_busy or not self._news:
            return
        now = self.context.now
        self._prompt_busy = True
        if self._silent_until > now:
            self.context.queue.at(self._silent_until, self._prompt_again)
            return
        self._news = False
        if self._finished:
            requests = tuple(self._finished)
            message = RequestsFinished(self.worker_id, requests)
            self._deliver(message, 0, lambda taken: self._prompt_finished_sent(requests, taken=taken), PROMPT_TIMEOUT_S)
        else:
            self._send_status_promptly()

    def _prompt_finished_sent(self, requests: tuple[Finished, ...], *, taken: bool) -> None:
        if not taken:
            self._prompt_failed()
            return
        self._forget_finished(requests)
        self._send_status_promptly()

    def _send_status_promptly(self) -> None:
        if self.alive:
            report = self._report(numbered=True)
            self._deliver(report, self.snapshots, self._status_sent, PROMPT_TIMEOUT_S)

    def _status_sent(self, taken: bool) -> None:
        if not taken:
            self._prompt_failed()
            return
        self._prompt_busy, self._prompt_failures = False, 0
        self._reported_at = self.context.now
        if self._news:
            self._send_promptly()
        else:
            self._update_pending = False

    def _prompt_failed(self) -> None:
        self._news = True
        failures, self._prompt_failures = self._prompt_failures, min(self._prompt_failures + 1, 10)
        pause_s = 0.0 if failures == 0 else min(PROMPT_RETRY_FIRST_S * 2.0 ** (failures - 1), PROMPT_RETRY_MAX_S)
        self.context.queue.after(pause_s, self._prompt_again)

    def _prompt_again(self) -> None:
        self._prompt_busy = False
        self._send_promptly()
