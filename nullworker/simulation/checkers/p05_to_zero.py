"""P5: with no demand, active workers go down to their floor, all to `cold_workers`, and nothing comes back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.commands import Create, Destroy, Grant, Start, Stop
from nullworker.core.parameters import EndpointState
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.core.parameters import Parameters
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.process import Process, Session
    from nullworker.simulation.truth import Truth

SLACK_S = 3.0  # a stock worker's tick, and the way of its report


class ToZero(Checker):
    """At rest, against the fleet; and in a world without faults, by the time that it takes."""

    promise = "P5"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        self._free_since: dict[int, float] = {}
        self._states: dict[int, EndpointState] = {}  # as the engine was told

    # -------------------------------------------------------------------------------------------------- without faults

    def session_opened(self, process: Process, session: Session) -> None:  # noqa: ARG002 - a hook
        self._free_since.pop(process.worker_id, None)

    def session_closed(self, process: Process, session: Session, why: str) -> None:  # noqa: ARG002 - a hook
        if self.truth.calm:
            self._free_since[process.worker_id] = self.truth.now
            plan = self.truth.plan
            idle_s = max(parameters.idle_s for parameters in plan.endpoints.values())
            self.truth.later(idle_s + 1.0 + SLACK_S, self._went, process, self.truth.now)

    def _went(self, process: Process, since: float) -> None:
        if self._free_since.get(process.worker_id) != since or process is not self.truth.process(process.worker_id):
            return
        instance = self.truth.instances[process.worker_id]
        parameters = self.truth.plan.endpoints[instance.endpoint_id]
        zero = not parameters.min_load and not parameters.keeps_last and parameters.target_util == 1.0
        if not zero or self.truth.uneven or self.truth.waits_on(instance.endpoint_id):
            return
        engine = self.truth.engine
        if engine is not None and process.alive:
            state = engine.state.workers[process.worker_id].state.value
            idle_s = self.truth.now - since
            self.require(
                state in ("stopping", "destroying"), f"worker {process.worker_id} is {state}, free for {idle_s:.1f} s"
            )

    # ---------------------------------------------------------------------------------------------------------- at rest

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if isinstance(event, events.EndpointPut):
            self._states[event.endpoint_id] = event.parameters.state
        if len(set(self._states.values())) > 1 or EndpointState.ACTIVE not in self._states.values():
            for command in decided:
                self._heed_the_state(engine, event, command)
        if self.truth.resting:
            for command in decided:
                self.require(
                    not isinstance(command, (Create, Start, Stop, Destroy)),
                    f"after quiet, and without any client: {type(command).__name__}: {command.reason}",
                )

    def _heed_the_state(self, engine: Engine, event: events.Event, command: Command) -> None:
        """A suspended endpoint neither makes nor releases workers; a stopped one makes no new grants either."""
        state, evidence = EndpointState.ACTIVE, self.evidence
        if isinstance(command, Grant):
            stopped = self._states[command.endpoint_id] is EndpointState.STOPPED
            again = evidence.was_given(command.request_idx, command.worker_id)
            again = again or evidence.lists(command.worker_id, command.request_idx)
            self.require(again or not stopped, f"a grant on a stopped endpoint: {command.reason}")
        elif isinstance(command, Create) and not evidence.was_ordered(command.worker_id):
            state = self._states[engine.state.workergroups[command.workergroup_id].spec.endpoint_id]
        elif isinstance(command, (Stop, Destroy)) and not evidence.may_end(
            engine, event, command.worker_id, limits.SILENCE_FAILS_S
        ):
            state = self._states[evidence.workers[command.worker_id].endpoint_id]
        self.require(state is EndpointState.ACTIVE, f"a {type(command).__name__} while {state.value}: {command.reason}")

    def at_rest(self) -> None:
        for endpoint_id, (_, parameters) in self.truth.endpoints.items():
            if endpoint_id not in self.truth.deleting and self.truth.has_room(endpoint_id):
                self._check(endpoint_id, parameters)

    def _check(self, endpoint_id: int, parameters: Parameters) -> None:
        perf = self.truth.perf_of(endpoint_id)
        if not perf:
            return
        mine = [i for i in self.truth.instances.values() if i.endpoint_id == endpoint_id]
        active = sum(i.state == "running" for i in mine)
        least = math.ceil(round(parameters.min_load / parameters.target_util / perf, 9))
        cold_perf = max(parameters.min_cold_load, parameters.cold_mult * parameters.min_load)
        total = max(least, parameters.cold_workers, math.ceil(round(cold_perf / perf, 9)))
        least, total = min(least, parameters.max_workers), min(total, parameters.max_workers)
        most = max(least, 1) if parameters.keeps_last else least
        total_most = max(total, most)
        self.require(least <= active <= most, f"endpoint {endpoint_id} has {active} running, and needs {least}")
        self.require(
            total <= len(mine) <= total_most,
            f"endpoint {endpoint_id} has {len(mine)} workers, and is to have {total}",
        )
