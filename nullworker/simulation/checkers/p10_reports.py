"""P10: lost, repeated, late, out of order: the state converges with the next report and never moves backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events
from nullworker.core.commands import Note
from nullworker.core.reservation import Stage
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.process import Process
    from nullworker.simulation.truth import Truth


class Reports(Checker):
    """A report older than one that was told before changes no reservation; at rest both sides say the same."""

    promise = "P10"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        #: (worker, whether numbered) -> (process, snapshot), of this engine
        self._newest: dict[tuple[int, bool], tuple[int, int]] = {}
        self._said: dict[tuple[int, bool], tuple[int, ...]] = {}  # and what it listed
        self._boots: dict[int, int] = {}  # id of a process -> its number
        self._stale = ""
        self._ends: set[tuple[int, int]] = set()  # (worker, request) whose end this engine was told

    def engine_started(self) -> None:
        self._newest = {}
        self._ends.clear()

    def told(self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int) -> None:
        self._stale = ""
        if not isinstance(message, events.WorkerReported):
            self._ends |= {(message.worker_id, request.request_idx) for request in message.requests}
            return
        told = (process.boot, snapshot)
        stream = (message.worker_id, bool(message.seq))
        newest = self._newest.get(stream, (0, 0))
        if self.evidence.sign_of_life:
            self._stale = f"a report without a number of worker {message.worker_id}, which numbers its reports"
        elif told[0] == newest[0] and told < newest:
            if message.request_idxs == self._said[stream]:
                return  # it says what the newest said, and moves nothing backwards
            self._stale = f"report {told} of worker {message.worker_id} after {newest}"
        elif told > newest:
            self._newest[stream] = told
            self._said[stream] = message.request_idxs

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:  # noqa: ARG002 - a hook
        if self.truth.clock_was_changed:
            return  # what is remembered, is remembered for a time
        if self._stale and isinstance(event, events.WorkerReported):
            stale, self._stale = self._stale, ""
            notes = [command for command in decided if isinstance(command, Note)]
            kinds = {note.kind for note in notes if not self._is_so(note)}
            back = kinds & {"session_ended", "session_adopted", "session_lost"}
            # That a session has ended, an engine that was started since cannot know; that it is adopted harms none.
            ended = any((event.worker_id, request_idx) in self._ends for request_idx in event.request_idxs)
            if self.truth.generation > 1 and not ended:
                back.discard("session_adopted")
            self.require(not back or "worker_counts_anew" in kinds, f"{stale}: {', '.join(sorted(back))}")

    def _is_so(self, note: Note) -> bool:
        """Whether a session that is said to have ended has: a report may be the only one that got through of many."""
        if note.kind != "session_ended":
            return False
        processes = [each for each in self.truth.processes() if each.worker_id == note.worker_id]
        return not any(note.request_idx in each.sessions for each in processes)

    def at_rest(self) -> None:
        engine = self.truth.engine
        if engine is None:
            return
        really = {
            (process.worker_id, request_idx) for process in self.truth.processes() for request_idx in process.sessions
        }
        believed = {
            (r.worker_id, r.request_idx) for r in engine.state.reservations.values() if r.stage is Stage.SESSION
        }
        self.require(really == believed, f"sessions are believed to be {sorted(believed)}, and are {sorted(really)}")
        for worker in engine.state.workers.values():
            self.require(
                not worker.trust.unresponsive and not worker.trust.may_hold_unknown,
                f"worker {worker.worker_id} is not trusted for ever",
            )
