"""P12: creates per reservation, orders per second and changes of direction have bounds; failures are retried slower."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.commands import Create, Destroy, Note, Start, Stop
from nullworker.core.driver import TIMER_SLACK_S
from nullworker.simulation.checkers.p16_cheaper_first import cheaper_than
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.hooks import Call
    from nullworker.simulation.process import Process, Session
    from nullworker.simulation.truth import Truth

#: A workergroup of which nothing becomes ready is tried so often in `FAILING_WINDOW_S`: three waves of all that are
#: wanted, and then one at a time with growing pauses.
FAILING_WINDOW_S = 300.0
FAILING_TRIES = 14
#: A grant that is kept between two polls, and one that was answered, run out in vain before the next poll, at most.
RAN_OUT_TIMES = 2
SAME_ORDER_S = 1.0
SLACK_S = 0.5


class Bounded(Checker):
    """Counts creations while nothing becomes ready, grants and orders given again, and workers that go too young."""

    promise = "P12"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        self._creates: dict[int, deque[float]] = {}
        self._free_since: dict[int, float] = {}
        self._last_order: dict[tuple[str, int], float] = {}
        self._put_at = 0.0
        self._ran_out: dict[int, int] = {}  # grants of a request since it last asked

    def asked(self, request_idx: int, endpoint_id: int, call: Call) -> None:  # noqa: ARG002 - a hook
        self._ran_out.pop(request_idx, None)

    def engine_started(self) -> None:
        self._creates.clear()  # the record of failures is the engine's own, and goes with it
        self._last_order.clear()
        self._ran_out.clear()

    def session_opened(self, process: Process, session: Session) -> None:  # noqa: ARG002 - a hook
        self._free_since.pop(process.worker_id, None)

    def session_closed(self, process: Process, session: Session, why: str) -> None:  # noqa: ARG002 - a hook
        if not session.by_old_grant:
            self._free_since[process.worker_id] = self.truth.clock

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if isinstance(
            event, (events.EndpointPut, events.EndpointDeleted, events.WorkergroupPut, events.WorkersUpdated)
        ):
            self._put_at = self.truth.clock
            self._creates.clear()
        for command in decided:
            if isinstance(command, Create):
                self._created(engine, command)
            elif isinstance(command, (Stop, Destroy)):
                self._ended(engine, event, command)
            elif isinstance(command, Start):
                # It is to run again, and may be stopped again after that; how soon, `inactivity_timeout` says.
                self._last_order.pop((Stop.__name__, command.worker_id), None)
            elif isinstance(command, Note) and command.kind == "grant_expired":
                times = self._ran_out[command.request_idx] = self._ran_out.get(command.request_idx, 0) + 1
                self.require(
                    times <= RAN_OUT_TIMES,
                    f"request {command.request_idx} was granted a worker {times} times since it last asked, in vain",
                )
        if isinstance(event, events.WorkerReported) and event.ready:
            worker = engine.state.workers.get(event.worker_id)
            if worker is not None:
                self._creates.pop(worker.workergroup.spec.workergroup_id, None)

    def _created(self, engine: Engine, command: Create) -> None:
        recent = self._creates.setdefault(command.workergroup_id, deque())
        now = self.truth.clock
        recent.append(now)
        while recent and recent[0] < now - FAILING_WINDOW_S:
            recent.popleft()
        endpoint_id = engine.state.workergroups[command.workergroup_id].spec.endpoint_id
        most = 3 * self.truth.endpoints[endpoint_id][1].max_workers + FAILING_TRIES
        self.require(
            len(recent) <= most,
            f"workergroup {command.workergroup_id} had {len(recent)} creations in {FAILING_WINDOW_S:g} s, and no "
            "worker became ready",
        )

    def _ended(self, engine: Engine, event: events.Event, command: Stop | Destroy) -> None:
        key = (type(command).__name__, command.worker_id)
        now = self.truth.clock
        before = self._last_order.get(key)
        worker = engine.state.workers.get(command.worker_id)
        if before is not None and worker is not None and not self.truth.clock_was_changed:
            self.require(
                now - before >= SAME_ORDER_S,
                f"{key[0]} of worker {command.worker_id} is ordered again after {now - before:.2f} s",
            )
        self._last_order[key] = now
        since = self._free_since.get(command.worker_id)
        if worker is None or since is None:
            return
        idle_s = self.truth.endpoints[worker.workergroup.spec.endpoint_id][1].idle_s
        self.require(
            now - since >= idle_s - SLACK_S
            or self._put_at > since
            or (worker.workergroup.spec.fallback_after_s and cheaper_than(self.truth, worker.workergroup.spec))
            or self.truth.clock_was_changed
            or self.evidence.may_end(engine, event, command.worker_id, limits.SILENCE_FAILS_S),
            f"worker {command.worker_id} goes after {now - since:.2f} s, and inactivity_timeout is {idle_s:g} s",
        )


class Pauses(Checker):
    """Counts creations that failed for certain, and looks whether each is followed by twice the pause of the last.

    It forgets its count sooner than the engine does, so that it never asks for a longer pause than the engine owes.
    """

    promise = "P12"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._ordered: dict[int, tuple[int, float]] = {}  # worker -> its workergroup, when it was ordered
        self._made: set[int] = set()  # workers that are there: what came to nothing was another order
        self._failures: dict[int, int] = {}
        self._failed_at: dict[int, float] = {}
        self._next_at: dict[int, float] = {}

    def engine_started(self) -> None:
        for table in (self._ordered, self._made, self._failures, self._failed_at, self._next_at):
            table.clear()

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if self.truth.clock_was_changed:
            return
        now = self.truth.clock
        if isinstance(event, (events.InstanceCreated, events.WorkerReported)):
            self._made.add(event.worker_id)
        if isinstance(event, events.InstanceFailed) and event.verb == "create" and event.definite:
            self._failed(event.worker_id, now)
        elif isinstance(event, (events.EndpointPut, events.WorkergroupPut)):
            self._failures.clear()  # what was ordered before still fails together with what is ordered now
            self._next_at.clear()
        elif isinstance(event, (events.WorkerReported, events.RequestsFinished)):
            worker = engine.state.workers.get(event.worker_id)
            if worker is not None:
                self._failures.pop(worker.workergroup.spec.workergroup_id, None)
        for command in decided:
            if isinstance(command, Create):
                due = self._next_at.get(command.workergroup_id, now)
                self.require(
                    now >= due - TIMER_SLACK_S,
                    f"workergroup {command.workergroup_id} is tried {due - now:.2f} s before its pause is over",
                )
                self._ordered[command.worker_id] = (command.workergroup_id, now)
            elif isinstance(command, Destroy):
                self._ordered.pop(command.worker_id, None)  # that it could not be created matters no more
            elif isinstance(command, Note) and command.kind == "worker_failed":
                # Of any of its workers, be it from before the tables were cleared.
                failed = engine.state.workers.get(command.worker_id)
                group_id, _ = self._ordered.get(command.worker_id, (0, 0.0))
                self._failed_at[group_id if failed is None else failed.workergroup.spec.workergroup_id] = now

    def _failed(self, worker_id: int, now: float) -> None:
        group_id, ordered_at = self._ordered.get(worker_id, (0, 0.0))
        # Those that were ordered together fail together: that is one failure.
        if group_id and worker_id not in self._made and ordered_at > self._failed_at.get(group_id, -1.0):
            self._failures[group_id] = failures = self._failures.get(group_id, 0) + 1
            self._failed_at[group_id] = now
            self._next_at[group_id] = now + min(limits.BACKOFF_MAX_S, 2.0 ** (failures - 1))
