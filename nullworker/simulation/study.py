"""A trace through the engine's own code: what a set of endpoint parameters would have done with it.

Nothing fails here and no report is lost: this world is for choosing parameters, not for hunting faults (`world` is).
Time is virtual, and only what happens costs time to compute.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.core.commands import Create, Destroy, Grant, Start, Stop
from nullworker.core.engine import Engine
from nullworker.core.events import (
    Asked,
    EndpointPut,
    Finished,
    InstanceCreated,
    InstanceGone,
    InstanceStarted,
    InstanceStopped,
    RequestsFinished,
    TimePassed,
    WorkergroupPut,
    WorkerReported,
)
from nullworker.core.parameters import Parameters, WorkergroupSpec
from nullworker.simulation.outcome import Outcome, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nullworker.core.commands import Command
    from nullworker.core.events import Event
    from nullworker.simulation.traces import Job

PERF = 100.0

#: What this engine is called among the policies.
OWN = "nullworker"


@dataclass(slots=True)
class _Worker:
    """Where a simulated worker is, and since when."""

    phase: str  # booting, free, held, stopped
    since_s: float
    received: int = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """The world that a trace runs in."""

    parameters: Parameters
    start_up_s: float = 60.0
    #: An inactive worker's way back.
    restart_s: float = 15.0
    cost: float = PERF
    timeline: bool = False


class Study:
    """One run of one trace."""

    def __init__(self, jobs: Sequence[Job], setting: Setting, name: str = OWN) -> None:
        self._jobs = jobs
        self._setting = setting
        # No report is ever lost here: workers report when something happens, and their silence means nothing.
        self._engine = Engine(judges_silence=False)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._workers: dict[int, _Worker] = {}
        self._held: dict[int, int] = {}  # worker -> request_idx
        self._running = 0
        self._waiting = 0
        self._paid = 0
        self.now_s = 0.0
        #: Each job that began, with its arrival and its beginning.
        self.windows: list[Window] = []
        self.outcome = Outcome(name, len(jobs))

    def run(self, on_progress: Callable[[int], None] = lambda _: None) -> Outcome:
        """Runs the trace to the end of its last job, and on until the fleet is at rest."""
        setting = self._setting
        self._handle(EndpointPut(1, "trace", setting.parameters))
        self._handle(WorkergroupPut(WorkergroupSpec(1, 1, "simulated", perf=PERF, occupancy=1)))
        for number, job in enumerate(self._jobs, 1):
            self._until(job.arrival_s)
            self._waiting += 1
            self._note()
            self._handle(Asked(1, number, setting.cost, 1e12))
            if number % 10_000 == 0:
                on_progress(number)
        last_s = (self._jobs[-1].arrival_s if self._jobs else 0.0) + 10 * 365 * 86_400.0
        self._until(last_s, only_while_busy=True)
        self.outcome.unserved = self._waiting
        for worker in self._workers.values():
            self._pay(worker)
        return self.outcome

    # ------------------------------------------------------------------------------------------------------------ time

    def _until(self, until_s: float, *, only_while_busy: bool = False) -> None:
        while True:
            if only_while_busy and not self._queue and not self._running and not self._waiting:
                due = self._engine.wake_at()
                if due is None or due > self.now_s + 4 * (self._setting.parameters.idle_s + 60.0):
                    return
            at_s = self._queue[0][0] if self._queue else float("inf")
            wake = self._engine.wake_at()
            if wake is not None and wake < at_s:
                if wake > until_s:
                    break
                self.now_s = max(self.now_s, wake)
                self._handle(TimePassed())
                continue
            if at_s > until_s or at_s == float("inf"):
                break
            _, _, deed = heapq.heappop(self._queue)
            self.now_s = at_s
            deed()
        if not only_while_busy:
            self.now_s = until_s

    def _after(self, seconds: float, deed: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + seconds, self._count, deed))

    # ------------------------------------------------------------------------------------------------------ the engine

    def _handle(self, event: Event) -> None:
        for command in self._engine.handle(event, self.now_s):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        worker_id = getattr(command, "worker_id", 0)
        if isinstance(command, Create):
            self._workers[worker_id] = _Worker("booting", self.now_s)
            self._paid += 1
            self._note()
            self._after(0.0, lambda: self._handle(InstanceCreated(worker_id)))
            self._after(self._setting.start_up_s, lambda: self._report(worker_id))
        elif isinstance(command, Start):
            self._turn(worker_id, "booting")
            self._after(0.0, lambda: self._handle(InstanceStarted(worker_id)))
            self._after(self._setting.restart_s, lambda: self._report(worker_id))
        elif isinstance(command, Stop):
            self._turn(worker_id, "stopped")
            self._after(0.0, lambda: self._handle(InstanceStopped(worker_id)))
        elif isinstance(command, Destroy):
            self._turn(worker_id, "stopped")
            self._workers.pop(worker_id, None)
            self._after(0.0, lambda: self._handle(InstanceGone(worker_id)))
        elif isinstance(command, Grant):
            self._begin(command)

    def _report(self, worker_id: int) -> None:
        worker = self._workers.get(worker_id)
        if worker is None or worker.phase == "stopped":
            return
        if worker.phase == "booting":
            self._turn(worker_id, "free")
        idx = self._held.get(worker_id)
        held = () if idx is None else (idx,)
        load = self._setting.cost * len(held)
        url = f"http://{worker_id}"
        self._handle(WorkerReported(worker_id, url, True, "", PERF, load, held, worker.received))

    def _begin(self, grant: Grant) -> None:
        job = self._jobs[grant.request_idx - 1]
        self._waiting -= 1
        self._running += 1
        self._held[grant.worker_id] = grant.request_idx
        self._workers[grant.worker_id].received += 1
        self._turn(grant.worker_id, "held")
        self.outcome.waits_s.append(self.now_s - job.arrival_s)
        self.windows.append(Window(job.arrival_s, self.now_s, job.duration_s))
        self._after(0.0, lambda: self._report(grant.worker_id))
        self._after(job.duration_s, lambda: self._end(grant.worker_id, grant.request_idx))

    def _end(self, worker_id: int, request_idx: int) -> None:
        self._running -= 1
        self._held.pop(worker_id, None)
        if worker_id not in self._workers:
            self.outcome.killed += 1  # the engine destroyed it under its job
            return
        self._turn(worker_id, "free")
        self._handle(RequestsFinished(worker_id, (Finished(request_idx, "Success", self.now_s),)))

    # ---------------------------------------------------------------------------------------------------------- sums

    def _turn(self, worker_id: int, phase: str) -> None:
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        self._pay(worker)
        was_paid, is_paid = worker.phase != "stopped", phase != "stopped"
        self._paid += is_paid - was_paid
        worker.phase, worker.since_s = phase, self.now_s
        self._note()

    def _pay(self, worker: _Worker) -> None:
        seconds = self.now_s - worker.since_s
        if worker.phase == "booting":
            self.outcome.booting_s += seconds
        elif worker.phase == "free":
            self.outcome.idle_s += seconds
        elif worker.phase == "held":
            self.outcome.held_s += seconds
        else:
            self.outcome.inactive_s += seconds
        worker.since_s = self.now_s

    def _note(self) -> None:
        self.outcome.peak = max(self.outcome.peak, self._paid)
        if self._setting.timeline:
            demand = self._running + self._waiting
            self.outcome.timeline.append((self.now_s, demand, self._paid, self._waiting))
