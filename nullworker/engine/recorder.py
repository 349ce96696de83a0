"""Writes down what the core does: grants before they are answered, the rest behind the answer; if asked, a journal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nullworker.core import recovery
from nullworker.core.commands import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nullworker.core.commands import Command, Grant
    from nullworker.core.engine import Engine
    from nullworker.core.events import Event
    from nullworker.engine.decisions import Decision, Decisions
    from nullworker.engine.journal_file import JournalFile
    from nullworker.engine.store import Store
    from nullworker.engine.usage import Usage

log = logging.getLogger(__name__)

_LOG_LEVELS = (logging.INFO, logging.INFO, logging.DEBUG, logging.DEBUG)


class Recorder:
    """The driver's recorder."""

    def __init__(
        self,
        decisions: Decisions,
        wall_s: Callable[[], float],
        store: Store | None = None,
        journal: JournalFile | None = None,
        usage: Usage | None = None,
    ) -> None:
        self._decisions = decisions
        self._wall_s = wall_s
        self._store = store
        self._journal = journal
        self._usage = usage
        #: Called with an endpoint's id when the last of it is gone; set by the server.
        self.endpoint_gone: Callable[[int], None] = lambda _: None
        #: Called when a deleted workergroup is gone; set by the server.
        self.workergroup_gone: Callable[[], None] = lambda: None
        #: Called with each decision; set by whoever shows them as they come.
        self.on_decision: Callable[[Decision], None] = lambda _: None

    def granted(self, grant: Grant) -> None:
        """Puts the grant where a killed engine's successor finds it."""
        if self._store is not None:
            self._store.log_grant(grant.request_idx, grant.endpoint_id, grant.worker_id, grant.cost)

    def handled(self, engine: Engine, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Keeps the decisions, and hands what changed to the store's writer."""
        if self._journal is not None:
            self._journal.write(event, now, commands)
        if self._store is not None:
            self._write_changes(engine, self._store)
        if self._usage is not None:
            self._count(engine, self._usage, now)
        if commands:
            self._keep(commands)

    def _keep(self, commands: Sequence[Command]) -> None:
        at_s = self._wall_s()
        for command in commands:
            decision = self._decisions.add(command, at_s)
            log.log(
                _LOG_LEVELS[decision.level],
                "%s",
                decision.reason,
                extra={
                    "action": decision.kind,
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

    @staticmethod
    def _write_changes(engine: Engine, store: Store) -> None:
        state = engine.state
        for worker_id in state.changed_workers:
            worker = recovery.worker_record(state, worker_id)
            if worker is None:
                store.delete_worker(worker_id)
            else:
                store.put_worker(worker)
        for request_idx in state.changed_reservations:
            reservation = recovery.reservation_record(state, request_idx)
            if reservation is None:
                store.delete_reservation(request_idx)
            else:
                store.put_reservation(reservation)

    @staticmethod
    def _count(engine: Engine, usage: Usage, now: float) -> None:
        usage.pass_time(now)
        for worker_id in engine.state.changed_workers:
            usage.changed(worker_id, engine.state.workers.get(worker_id), now)

    def forget_owned(self, engine: Engine) -> None:
        """All that we ran was destroyed at the engine's end: the next start finds nothing to adopt."""
        if self._store is not None:
            for worker in engine.state.workers.values():
                if worker.owned:
                    self._store.delete_worker(worker.worker_id)
                    for request_idx in worker.held:
                        self._store.delete_reservation(request_idx)
