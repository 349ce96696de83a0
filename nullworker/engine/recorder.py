"""Writes down what the core does: grants and creations before they leave the engine, the rest after it; and a journal.

What one turn of the event loop decides is one commit (`Recorder.commit`), so that a busy engine makes few. The rest,
for which no call waits, is written down once the answers are sent (`Recorder.answered`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core import views
from nullworker.core.commands import Create, Grant, Note
from nullworker.engine.decisions import LineLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.core.events import Event, RestoredReservation, RestoredWorker
    from nullworker.engine.crash_dump import CrashDump
    from nullworker.engine.decisions import Decision, Decisions
    from nullworker.engine.journal_file import JournalFile
    from nullworker.engine.store import Store
    from nullworker.engine.usage import Usage

log = logging.getLogger(__name__)

_LOG_LEVELS = (logging.INFO, logging.INFO, logging.DEBUG, logging.DEBUG)


class _Handled(NamedTuple):
    """An event, what it led to, and what it changed."""

    event: Event
    now: float
    commands: Sequence[Command]
    changes: views.Changes | None


class Recorder:
    """The driver's recorder."""

    def __init__(
        self,
        decisions: Decisions,
        wall_s: Callable[[], float],
        store: Store | None = None,
        journal: JournalFile | None = None,
        usage: Usage | None = None,
        crash_dump: CrashDump | None = None,
    ) -> None:
        """Takes where things are written; what is None is left out.

        Args:
            decisions: the latest decisions, in memory.
            wall_s: gives Unix time, which decisions are dated with.
            store: what a restart needs.
            journal: every event and what it led to.
            usage: how long workers were in each state.
            crash_dump: what is left when the core fails.
        """
        self._decisions = decisions
        self._line_limit = LineLimit()
        self._wall_s = wall_s
        self._store = store
        self._journal = journal
        self._usage = usage
        self._crash_dump = crash_dump
        self._uncommitted: set[int] = set()  # grants (request_idx) whose rows `commit` writes
        self._uncommitted_workers: set[int] = set()  # created ones, and granted: which of their ends were told is in it
        self._committed: dict[int, RestoredReservation] = {}  # by request_idx: what `commit` wrote before `answered`
        self._committed_workers: dict[int, RestoredWorker] = {}  # the same, by worker_id
        self._unwritten: list[_Handled] = []  # since then; `answered` writes it down
        #: Called with an endpoint's id when the last of it is gone; set by the server.
        self.endpoint_gone: Callable[[int], None] = lambda _: None
        #: Called when a deleted workergroup is gone; set by the server.
        self.workergroup_gone: Callable[[], None] = lambda: None
        #: The name of an endpoint, for the log; set by the server.
        self.name_of: Callable[[int], str] = lambda _: ""
        #: Called with each decision; set by a command that shows them as they come.
        self.on_decision: Callable[[Decision], None] = lambda _: None
        #: Called with the core and what an event changed in it; set by the server.
        self.on_changes: Callable[[Engine, views.Changes], None] = lambda _engine, _changes: None

    def decided(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Notes what must be committed before it is answered or ordered.

        Args:
            event: what was handled.
            now: the core's time then.
            commands: what it led to, in order.
        """
        if self._crash_dump is not None:
            self._crash_dump.add(event, now, commands)
        if self._store is not None:
            for command in commands:
                if isinstance(command, Grant):
                    self._uncommitted.add(command.request_idx)
                if isinstance(command, (Grant, Create)):
                    self._uncommitted_workers.add(command.worker_id)

    def commit(self, engine: Engine) -> None:
        """Commits what was decided since the last time, so that the next start after a kill honours it."""
        if self._store is None or not (self._uncommitted or self._uncommitted_workers):
            return
        for worker_id in self._uncommitted_workers:
            if (worker := views.worker_record(engine, worker_id)) is not None:
                self._committed_workers[worker_id] = worker
        for request_idx in self._uncommitted:
            if (reservation := views.reservation_record(engine, request_idx)) is not None:
                self._committed[request_idx] = reservation
        self._store.write_now(self._committed_workers.values(), self._committed.values())
        self._uncommitted.clear()
        self._uncommitted_workers.clear()

    def answered(self, engine: Engine) -> None:
        """What was committed is answered: there is time for the rest, and for a little of what waits to be written."""
        self._write_rest(engine)
        if self._store is not None:
            self._store.write_little()

    def failed(self, event: Event, now: float, error: Exception) -> str:
        """The core failed at ``event``: writes the journal's last line, and the dump.

        Of what was handled before and is not written down, only the journal gets its lines: what the core has changed
        since may be half of ``event``.

        Args:
            event: at which it failed.
            now: the core's time then.
            error: what it raised.

        Returns:
            Where the dump is, or why there is none, for a sentence.
        """
        if self._journal is not None:
            for handled in self._unwritten:
                self._journal.write(handled.event, handled.now, handled.commands)
            self._journal.write_failed(event, now, error)
        if self._crash_dump is None:
            return "no dump was asked for"
        try:
            path = self._crash_dump.write(event, now, error)
        except Exception as refused:
            return f"its dump cannot be written ({refused})"
        return f"`nullworker replay {path}` shows it"

    def handled(self, engine: Engine, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Keeps the decisions, and hands what changed to the store's writer; later, while a commit or its answers wait.

        Args:
            engine: the core.
            event: what was handled.
            now: the core's time then.
            commands: what it led to, in order.
        """
        handled = _Handled(event, now, commands, views.changes(engine))  # a report changes nothing as a rule
        if self._uncommitted or self._uncommitted_workers or self._committed_workers or self._unwritten:
            self._unwritten.append(handled)
        else:
            self._write_down(engine, handled)

    def _write_rest(self, engine: Engine) -> None:
        unwritten, self._unwritten = self._unwritten, []
        for handled in unwritten:
            self._write_down(engine, handled)
        self._committed.clear()
        self._committed_workers.clear()

    def _write_down(self, engine: Engine, handled: _Handled) -> None:
        event, now, commands, changes = handled
        if self._journal is not None:
            self._journal.write(event, now, commands)
        if self._usage is not None:
            self._usage.pass_time(now)
        if changes is not None:
            self.on_changes(engine, changes)
            workers = [(worker_id, views.worker_record(engine, worker_id)) for worker_id in changes.workers]
            if self._store is not None:
                self._store_changes(self._store, engine, workers, changes.reservations)
            if self._usage is not None:
                for worker_id, worker in workers:
                    self._usage.changed(worker_id, worker, now)
        if commands:
            self._keep(commands)

    def _keep(self, commands: Sequence[Command]) -> None:
        at_s = self._wall_s()
        for command in self._line_limit.passed(commands, at_s):
            decision = self._decisions.add(command, at_s)
            log.log(
                _LOG_LEVELS[decision.level],
                "%s",
                decision.reason,
                extra={
                    "action": decision.kind,
                    "endpoint": self.name_of(decision.endpoint_id),
                    "endpoint_id": decision.endpoint_id,
                    "worker_id": decision.worker_id,
                    "request_idx": decision.request_idx,
                    "cause": decision.cause,
                },
            )
            if self._store is not None and decision.level < 3:
                self._store.add_decision(decision)
            self.on_decision(decision)
            if isinstance(command, Note) and command.kind == "endpoint_deleted":
                self.endpoint_gone(command.endpoint_id)
            elif isinstance(command, Note) and command.kind == "workergroup_deleted":
                self.workergroup_gone()

    def _store_changes(
        self,
        store: Store,
        engine: Engine,
        workers: Iterable[tuple[int, RestoredWorker | None]],
        request_idxs: Iterable[int],
    ) -> None:
        for worker_id, worker in workers:
            if worker is None:
                store.delete_worker(worker_id)
            else:
                store.put_worker(worker, is_committed=self._committed_workers.get(worker_id) == worker)
        for request_idx in request_idxs:
            reservation = views.reservation_record(engine, request_idx)
            if reservation is None:
                store.delete_reservation(request_idx)
            elif self._committed.get(request_idx) != reservation:
                store.put_reservation(reservation)

    def ended(self, commands: Sequence[Command]) -> None:
        """Keeps what the engine does at its end, which is no command of the core's."""
        self._keep(commands)

    def forget_owned(self, engine: Engine, only: Container[int] | None = None) -> None:
        """Removes workers that were destroyed at the engine's end: the next start has nothing to adopt.

        Args:
            engine: the core.
            only: their ids; None: all were.
        """
        self._write_rest(engine)
        if self._store is not None:
            for worker in views.workers(engine):
                if worker.owned and (only is None or worker.id in only):
                    self._store.delete_worker(worker.id)
                    for request_idx in worker.request_idxs:
                        self._store.delete_reservation(request_idx)
