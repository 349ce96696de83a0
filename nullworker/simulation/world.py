"""One simulated world in motion: a fleet, workers, clients, an engine between them, and all that goes wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.core import invariants, scaling
from nullworker.core.driver import HOLD_S
from nullworker.core.worker import WorkerState
from nullworker.simulation.clients import CALL_TIMEOUT_S, Client, ClientLinks, Job
from nullworker.simulation.context import Context
from nullworker.simulation.driver import SimulatedDriver
from nullworker.simulation.fault_injector import FaultInjector
from nullworker.simulation.fleet import Fleet, FleetLinks
from nullworker.simulation.network import LATENCY_S
from nullworker.simulation.observer import Observer
from nullworker.simulation.plan import FLEET, Plan
from nullworker.simulation.process import ProcessLinks
from nullworker.simulation.truth import Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nullworker.core.state import EngineState
    from nullworker.simulation.observer import Checker
    from nullworker.simulation.process import Process, Session

#: The world is looked at this often after the faults are over, until it has settled,
SETTLE_STEP_S = 60.0
#: and must have settled so long after all could have been served: a held worker's silence, a lost create and a pause
#: between attempts, in a row.
SETTLE_MAX_S = 2400.0
#: Then nothing may happen for so long: longer than the longest reminder (`limits.CREATE_UNKNOWN_S`).
REST_S = 720.0


class World:
    """Puts the parts together and lets time pass.

    Args:
        plan: what the world is made of.
        seed: what chance is drawn from.
        checkers: makes the checkers, given the truth that they may read.
    """

    def __init__(self, plan: Plan, seed: int, checkers: Callable[[Truth], list[Checker]]) -> None:
        self.plan = plan
        self.context = Context(seed, plan.faults, (0.0, LATENCY_S, HOLD_S, CALL_TIMEOUT_S))
        self.clients: list[Client] = []
        self.observer = Observer()
        self.fleet = Fleet(self.context, FLEET)
        self.driver = SimulatedDriver(self.context, plan, self.fleet, self.observer, self._engine_was_killed)
        self.injector = FaultInjector(self.context, self.driver, self.fleet, plan.kind_of(None))
        self.truth = Truth(self.context, plan, self.driver, self.fleet, self.clients)
        self.observer.observe_with(checkers(self.truth))
        self.fleet.connect(self._fleet_links())
        self._client_links = ClientLinks(
            self.driver.route, self.driver.hang_up, self.fleet.process, self.observer.held, self._client_over
        )
        self._wanting = 0  # clients that wait for, go to or hold a reservation
        self._last_news_at = 0.0
        self._coming: Iterator[Job] = iter(())

    def _fleet_links(self) -> FleetLinks:
        random, plan, observer = self.context.random, self.plan, self.observer
        return FleetLinks(
            ProcessLinks(self.driver.worker_says, observer.session_opened, self._session_closed),
            exited=self.driver.instance_exited,
            made=observer.instance_made,
            removed=observer.instance_removed,
            booted=self.injector.booted,
            never_gets_ready=self.injector.never_gets_ready,
            boot_s=lambda: random.uniform(*plan.boot_s),
            restart_s=lambda: random.uniform(*plan.restart_s),
        )

    @property
    def now(self) -> float:
        """The true time in seconds."""
        return self.context.now

    # ------------------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Lives through the faults and the quiet after them.

        Raises:
            PromiseBroken: a promise was.
            InvariantBroken: the core's tables contradict each other.
        """
        queue = self.context.queue
        self.begin()
        queue.run_until(self.plan.faults_end_s)
        self.injector.stop()
        end = self.now + SETTLE_MAX_S + self._queue_s()
        while self.now < end:
            queue.run_until(self.now + SETTLE_STEP_S)
            if self.settled():
                break
        self.truth.resting = self.settled()
        queue.run_until(self.now + REST_S)
        engine = self.driver.engine
        if engine is not None:
            invariants.check(engine)
        self.observer.at_rest()

    def _queue_s(self) -> float:
        """How long the last of a queue may have to wait where there are few workers and all hold them for long."""
        queue_s = dict.fromkeys(self.plan.endpoints, 0.0)
        for job in self.plan.jobs:
            queue_s[job.endpoint_id] += (job.hold_s + job.lifetime_s) / self.plan.endpoints[job.endpoint_id].max_workers
        return max(queue_s.values())

    def begin(self) -> None:
        """Starts the engine, and plans which clients come and what goes wrong; the queue is still to be run."""
        for endpoint_id, parameters in self.plan.endpoints.items():
            self.driver.endpoints[endpoint_id] = (f"endpoint-{endpoint_id}", parameters)
        self.driver.groups = {group.workergroup_id: group for group in self.plan.groups}
        self._coming = iter(sorted(self.plan.jobs, key=lambda job: job.arrives_at))
        self._await_next()
        self.context.network.start()
        self.injector.start()
        self.driver.start()

    def settled(self) -> bool:
        """Whether no client wants anything and the fleet has what the engine thinks it has."""
        engine = self.driver.engine
        if engine is None or self._wanting:
            return False
        state = engine.state
        if any(group.next_try_at > state.now for group in state.workergroups.values()):
            return False
        if state.reservations or any(process.sessions for process in self.fleet.processes()):
            return False
        if any(worker.trust.unresponsive or worker.trust.may_hold_unknown for worker in state.workers.values()):
            return False
        states = {worker.state.value for worker in state.workers.values()}
        if states - {"ready", "inactive"}:
            return False
        if any(due is not None and due < math.inf for due in self._goes_at(state)):
            return False
        idle_s = max((parameters.idle_s for _, parameters in self.driver.endpoints.values()), default=0.0)
        if self.now - max(self.driver.last_order_at, self._last_news_at) < 2 * idle_s + SETTLE_STEP_S:
            return False
        runs = {worker_id: instance.state == "running" for worker_id, instance in self.fleet.instances.items()}
        return runs == {w.worker_id: w.state is not WorkerState.INACTIVE for w in state.workers.values() if w.owned}

    @staticmethod
    def _goes_at(state: EngineState) -> Iterator[float | None]:
        """When each free worker is to go, if it is."""
        for endpoint in state.endpoints.values():
            for worker in endpoint.workers.values():
                if worker.state is WorkerState.READY and not worker.held:
                    yield scaling.goes_at(state, endpoint, worker)

    # -------------------------------------------------------------------------------------------------- what happens

    def _await_next(self) -> None:
        """Plans which client comes next, and no further: the queue stays as small as the present."""
        job = next(self._coming, None)
        if job is not None:
            self.context.queue.at(job.arrives_at, self._arrives, job)

    def _arrives(self, job: Job) -> None:
        self._await_next()
        context = self.context
        client = Client(context, self._client_links, len(self.clients) + 1, job)
        self.clients.append(client)
        self._wanting += 1
        faults, fates = context.faults, context.fates
        if faults.vanish and fates.random() < 0.5 * faults.vanish:
            context.queue.after(fates.uniform(0, 60), client.vanish)
        if faults.give_up and fates.random() < 0.5 * faults.give_up:
            context.queue.after(fates.uniform(0, 40), client.give_up)
        client.ask()

    def _session_closed(self, process: Process, session: Session, why: str) -> None:
        self._last_news_at = self.now
        self.observer.session_closed(process, session, why)
        if session.client is not None:
            session.client.session_closed(why)

    def _client_over(self, client: Client) -> None:
        self._last_news_at = self.now
        self._wanting -= 1
        self.observer.client_over(client)

    def _engine_was_killed(self) -> None:
        self.injector.engine_is_down()
