"""P11: an engine killed between any two effects and started again adopts everything and ends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.commands import Create, Destroy, Grant, Stop
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.process import Process
    from nullworker.simulation.truth import Truth


class Restart(Checker):
    """In the first reporting period after a restart: no new end, and no creation while enough workers are there.

    And no worker is granted before it has reported to this engine.
    """

    promise = "P11"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        self._leaving: set[int] = set()  # as it was written down
        self._asked: set[int] = set()
        self._heard: set[int] = set()  # by this engine
        self._made: set[int] = set()  # of its own accord
        self._ledger_was_lost = False  # then it cannot know what is enough

    def told(self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int) -> None:  # noqa: ARG002 - a hook
        self._heard.add(message.worker_id)

    def ledger_lost(self) -> None:
        self._ledger_was_lost = True

    def engine_started(self) -> None:
        self._heard.clear()
        self._made.clear()
        self._leaving = {
            worker.worker_id
            for worker in self.truth.stored_workers.values()
            if worker.state in ("stopping", "destroying")
        }

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        for command in decided:
            if isinstance(command, Grant) and command.worker_id not in self._heard:
                self.require(
                    self.evidence.was_given(command.request_idx, command.worker_id),
                    f"worker {command.worker_id} is granted, and has not reported to this engine yet",
                )
        truth = self.truth
        if truth.generation < 2 or truth.now >= truth.started_at + limits.REPORT_PERIOD_S:
            return
        for command in decided:
            if isinstance(command, (Stop, Destroy)):
                self._no_end(engine, event, command)
            elif isinstance(command, Create):
                made = f"worker {command.worker_id} is created on account of a restart: {command.reason}"
                self.require(self._ledger_was_lost or not self._enough(command.worker_id), made)
                if command.worker_id not in self.truth.stored_workers:
                    self._made.add(command.worker_id)

    def _no_end(self, engine: Engine, event: events.Event, command: Stop | Destroy) -> None:
        worker_id = command.worker_id
        excused = (
            worker_id in self._leaving
            or worker_id in self._made
            or (worker_id in self._asked and isinstance(event, events.Restored))  # beyond a max_workers lowered since
            or self.evidence.may_end(engine, event, worker_id, limits.SILENCE_FAILS_HELD_S)
        )
        self.require(excused, f"worker {worker_id} is ended in the first reporting period: {command.reason}")

    def _enough(self, worker_id: int) -> bool:
        """Whether the workers that run or are on their way are enough for all who want one, with exact parameters."""
        truth = self.truth
        if worker_id in truth.stored_workers or worker_id in truth.instances_ever or truth.uneven:
            return False
        endpoint_id = self.evidence.workers[worker_id].endpoint_id
        parameters = truth.endpoints[endpoint_id][1]
        exact = parameters.target_util == 1.0 and not parameters.min_load and not parameters.cold_workers
        if not exact or parameters.min_cold_load or parameters.cold_mult > 1:
            return False
        good = [
            row.worker_id
            for row in truth.stored_workers.values()
            if row.state in ("asked", "creating", "loading", "starting", "ready", "held")
            and self.evidence.workers[row.worker_id].endpoint_id == endpoint_id
            and (row.retire is None or row.state == "held")  # one that is to go gets nothing new
            and not self.evidence.failed(row.worker_id)
            # What this engine made and let go again, it knows better than its store, which is written later.
            and not (row.worker_id in self._made and self.evidence.workers[row.worker_id].leaving)
            and row.worker_id in truth.instances
        ]
        known = {r.request_idx: r for r in truth.noted_reservations().values() if r.endpoint_id == endpoint_id}
        asking = {idx for idx, call in truth.calls.items() if call.endpoint_id == endpoint_id}
        # Each session takes a worker, also one that its client has left: the unmodified worker refuses it a second one.
        sessions = [(process, idx) for process in truth.processes() for idx in process.sessions]
        used = {
            idx
            for process, idx in sessions
            if (process.kind.repeats or idx not in truth.calls)
            # One that was sent to another worker may have a session there too.
            and (idx not in known or known[idx].worker_id in (0, process.worker_id))
        }
        wanted = len(sessions) + len((known.keys() | asking) - used)
        engine = truth.engine
        there = len(engine.state.endpoints[endpoint_id].workers) if engine is not None else 0
        return len(good) >= wanted and there - 1 >= len(good)
