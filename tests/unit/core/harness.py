"""One endpoint on a fleet that obeys, driven by hand: short words for what happens, checked after every event."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from nullworker.core import commands, events
from nullworker.core.parameters import TESTED_PARAMETERS, Parameters, WorkergroupSpec
from nullworker.testing.clock import HandClock

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.worker import Worker, WorkerState

C = TypeVar("C")


class Scene(HandClock):
    """An engine with endpoint 1, whose workergroup 1 has null workers (perf 100, one reservation each)."""

    def __init__(self, parameters: Parameters = TESTED_PARAMETERS, *, begun: bool = True, **changes: object) -> None:
        super().__init__()
        self.parameters = replace(parameters, **changes)  # type: ignore[arg-type]  # tests name the right ones
        self.counts: dict[int, int] = {}  # requests that a worker received
        self.send(events.EndpointPut(1, "null", self.parameters))
        self.workergroup(1)
        if begun:
            self.send(events.TimePassed())

    # ------------------------------------------------------------------------------------------------ what happens

    def workergroup(self, workergroup_id: int, **changes: object) -> None:
        spec = WorkergroupSpec(workergroup_id, endpoint_id=1, fleet="f", occupancy=1)
        self.send(events.WorkergroupPut(replace(spec, **changes)))  # type: ignore[arg-type]  # as above

    def put(self, **changes: object) -> list[Command]:
        self.parameters = replace(self.parameters, **changes)  # type: ignore[arg-type]  # as above
        return self.send(events.EndpointPut(1, "null", self.parameters))

    def ask(self, request_idx: int, cost: float = 100.0, endpoint_id: int = 1) -> list[Command]:
        return self.send(events.Asked(endpoint_id, request_idx, cost))

    def hold_ends(self, request_idx: int) -> list[Command]:
        return self.send(events.HoldEnded(request_idx))

    def set_absent(self, request_idx: int) -> list[Command]:
        return self.send(events.WaiterGone(request_idx))

    def created(self, worker_id: int) -> list[Command]:
        return self.send(events.InstanceCreated(worker_id))

    def report(
        self,
        worker_id: int,
        *held: int,
        ready: bool = True,
        error: str = "",
        perf: float = 100.0,
        received: int | None = None,
        seq: int = 0,
        load: float | None = None,
        loadtime_s: float = 0.0,
    ) -> list[Command]:
        known = self.counts.get(worker_id, 0)
        count = max(known, len(held)) if received is None else received
        self.counts[worker_id] = max(count, known)
        amount = 100.0 * len(held) if load is None else load
        event = events.WorkerReported(
            worker_id, f"http://w{worker_id}", ready, error, perf, amount, held, count, seq, loadtime_s
        )
        return self.send(event)

    def clears_doubt(self, worker_id: int) -> list[Command]:
        """The worker says twice, in numbered reports, that it holds nothing that we do not know of."""
        held = [idx for idx, r in self.worker(worker_id).held.items() if r.stage.value == "session"]
        seq = self.worker(worker_id).report_order.seq
        return self.report(worker_id, *held, seq=seq + 1) + (
            self.report(worker_id, *held, seq=seq + 2) if worker_id in self.engine.state.workers else []
        )

    def takes(self, worker_id: int, request_idx: int) -> list[Command]:
        """The worker accepts the session and reports it."""
        self.counts[worker_id] = self.counts.get(worker_id, 0) + 1
        return self.report(worker_id, request_idx)

    def finishes(
        self, worker_id: int, request_idx: int, status: str = "Success", entered_at: float = 0.0
    ) -> list[Command]:
        if status == "Rejected":
            self.counts[worker_id] = self.counts.get(worker_id, 0) + 1  # what it refuses it has received
        return self.send(
            events.RequestsFinished(worker_id, (events.Finished(request_idx, status, entered_at or self.now),))
        )

    def up(self, *worker_ids: int) -> None:
        """The fleet made these workers, and they report that they are ready."""
        for worker_id in worker_ids:
            self.created(worker_id)
            self.report(worker_id)

    def live(self, seconds: float, *, period_s: float = 10.0) -> list[Command]:
        """Lets time pass while every worker that runs reports what it holds, at least every ``period_s`` seconds."""
        decided: list[Command] = []
        while seconds > 0:
            step_s = min(period_s, seconds)
            decided += self.pass_time(step_s)
            seconds -= step_s
            decided += self.obey()
            for worker in list(self.engine.state.workers.values()):
                if worker.state.value in ("ready", "held", "draining", "error"):
                    held = [idx for idx, r in worker.held.items() if r.stage.value == "session"]
                    error = "" if worker.failure is None else worker.failure.reason
                    decided += self.report(worker.worker_id, *held, error=error)
        return decided

    def obey(self) -> list[Command]:
        """The fleet says that it stopped and destroyed what it was told to."""
        decided: list[Command] = []
        for worker in list(self.engine.state.workers.values()):
            if worker.state.value == "stopping":
                decided += self.send(events.InstanceStopped(worker.worker_id))
            elif worker.state.value == "destroying":
                decided += self.send(events.InstanceGone(worker.worker_id))
        return decided

    def serve(self, count: int) -> None:
        """``count`` reservations are asked for at once, and all become sessions on workers of their own."""
        for request_idx in range(1, count + 1):
            self.ask(request_idx)
        for command in of(self.commands, commands.Create):
            self.up(command.worker_id)
        for grant in of(self.commands, commands.Grant):
            self.takes(grant.worker_id, grant.request_idx)

    # ------------------------------------------------------------------------------------------------- what is there

    def worker(self, worker_id: int) -> Worker:
        return self.engine.state.workers[worker_id]

    def state(self, worker_id: int) -> WorkerState:
        return self.worker(worker_id).state

    def states(self) -> dict[int, str]:
        return {w.worker_id: w.state.value for w in self.engine.state.workers.values()}


def of(decided: list[Command], kind: type[C]) -> list[C]:
    """The commands of one kind."""
    return [command for command in decided if isinstance(command, kind)]


def kinds(decided: list[Command]) -> list[str]:
    """What notes say, in machine words."""
    return [note.kind for note in of(decided, commands.Note)]
