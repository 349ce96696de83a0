"""One simulated world: a fleet, workers, clients, an engine between them, and all that goes wrong."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from nullworker.core import invariants
from nullworker.core.worker import WorkerState
from nullworker.simulation.agenda import Agenda
from nullworker.simulation.box import HOLD_S, Box
from nullworker.simulation.checkers import all_checkers
from nullworker.simulation.clients import CALL_TIMEOUT_S, Client, Job
from nullworker.simulation.fleet import Fleet, Instance
from nullworker.simulation.network import LATENCY_S, Network
from nullworker.simulation.trouble import Trouble
from nullworker.simulation.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nullworker.core.parameters import Parameters, WorkergroupSpec
    from nullworker.simulation.faults import Faults
    from nullworker.simulation.process import Process, Session, Traits
    from nullworker.simulation.watch import Checker

FLEET = "simulated"
#: The world is looked at this often after the faults are over, until it has settled,
SETTLE_STEP_S = 60.0
#: and must have settled so long after all could have been served: a held worker's silence, a lost create and a pause
#: between attempts, in a row.
SETTLE_MAX_S = 2400.0
#: Then nothing may happen for so long: longer than the longest reminder (`limits.CREATE_UNKNOWN_S`).
REST_S = 720.0


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a world is made of, drawn from a seed by a scenario."""

    endpoints: Mapping[int, Parameters]
    groups: Sequence[WorkergroupSpec]
    traits: Mapping[int, Traits]  # by workergroup
    jobs: Sequence[Job]
    faults: Faults
    boot_s: tuple[float, float]  # shortest and longest
    restart_s: tuple[float, float]
    trouble_s: float = 600.0  # after this nothing goes wrong and nobody comes


class World:
    """A world in motion. ``now`` is its true time."""

    def __init__(self, plan: Plan, seed: int, checkers: Callable[[World], list[Checker]] = all_checkers) -> None:
        self.plan = plan
        self.faults = plan.faults
        self.agenda = Agenda((0.0, LATENCY_S, HOLD_S, CALL_TIMEOUT_S))
        self.random = Random(f"{seed} world")
        self.network = Network(self.agenda, Random(f"{seed} network"), self.faults)
        self.fleet = Fleet(self, FLEET, self._boot_s, self._restart_s)
        self.trouble = Trouble(self, Random(f"{seed} trouble"))
        self.clients: list[Client] = []
        self.boots = 0
        self._news_at = 0.0
        self.wanting = 0  # clients that wait for, go to or hold a reservation
        self.watch = Watch(self, checkers(self))
        self.box = Box(self)
        self.calm = not plan.faults.names()
        #: Whether the engine's clock is, at times, another than the world's.
        self.clock_was_changed = bool(plan.faults.clock_forward or plan.faults.clock_backward or plan.faults.pause)
        #: Whether costs and perfs are not all 100, so that a reservation is not a worker.
        self.uneven = any(job.cost != 100.0 for job in plan.jobs) or any(t.perf != 100.0 for t in plan.traits.values())
        self.resting = False
        self._fates = Random(f"{seed} fates")
        self._coming: Iterator[Job] = iter(())

    @property
    def now(self) -> float:
        """The true time in seconds."""
        return self.agenda.now

    def _boot_s(self) -> float:
        return self.random.uniform(*self.plan.boot_s)

    def _restart_s(self) -> float:
        return self.random.uniform(*self.plan.restart_s)

    def traits_of(self, group: WorkergroupSpec | None) -> Traits:
        """What kind of workers a workergroup has."""
        return self.plan.traits[group.workergroup_id] if group is not None else next(iter(self.plan.traits.values()))

    # ------------------------------------------------------------------------------------------------------- running

    def run(self) -> None:
        """Lives through the trouble and the quiet after it.

        Raises:
            PromiseBroken: a promise was.
            InvariantBroken: the core's tables contradict each other.
        """
        self.begin()
        self.agenda.run_until(self.plan.trouble_s)
        self.trouble.stop()
        end = self.now + SETTLE_MAX_S + self._queue_s()
        while self.now < end:
            self.agenda.run_until(self.now + SETTLE_STEP_S)
            if self.settled():
                break
        self.resting = self.settled()
        self.agenda.run_until(self.now + REST_S)
        engine = self.box.engine
        if engine is not None:
            invariants.check(engine)
        self.watch.at_rest()

    def _queue_s(self) -> float:
        """How long the last of a queue may have to wait where there are few workers and all hold them for long."""
        queue_s = dict.fromkeys(self.plan.endpoints, 0.0)
        for job in self.plan.jobs:
            queue_s[job.endpoint_id] += (job.hold_s + job.lifetime_s) / self.plan.endpoints[job.endpoint_id].max_workers
        return max(queue_s.values())

    def begin(self) -> None:
        """Starts the engine, and plans who comes and what goes wrong. Nothing happens before the agenda is run."""
        for endpoint_id, parameters in self.plan.endpoints.items():
            self.box.endpoints[endpoint_id] = (f"endpoint-{endpoint_id}", parameters)
        self.box.groups = {group.workergroup_id: group for group in self.plan.groups}
        self._coming = iter(sorted(self.plan.jobs, key=lambda job: job.arrives_at))
        self._await_next()
        self.network.start()
        self.trouble.start()
        self.box.start()

    def settled(self) -> bool:
        """Whether nobody wants anything and the fleet has what the engine thinks it has."""
        engine = self.box.engine
        if engine is None or self.wanting:
            return False
        state = engine.state
        if any(group.next_try_at > state.now for group in state.workergroups.values()):
            return False
        if state.reservations or any(process.sessions for process in self.processes()):
            return False
        states = {worker.state.value for worker in state.workers.values()}
        if states - {"ready", "inactive"}:
            return False
        idle_s = max((parameters.idle_s for _, parameters in self.box.endpoints.values()), default=0.0)
        if self.now - max(self.box.last_order_at, self._news_at) < 2 * idle_s + SETTLE_STEP_S:
            return False
        runs = {worker_id: instance.state == "running" for worker_id, instance in self.fleet.instances.items()}
        return runs == {w.worker_id: w.state is not WorkerState.INACTIVE for w in state.workers.values() if w.owned}

    def _await_next(self) -> None:
        """Plans who comes next, and no further: the agenda stays as small as the present."""
        job = next(self._coming, None)
        if job is not None:
            self.agenda.at(job.arrives_at, self._arrives, job)

    def _arrives(self, job: Job) -> None:
        self._await_next()
        client = Client(self, len(self.clients) + 1, job)
        self.clients.append(client)
        self.wanting += 1
        faults, fates = self.faults, self._fates
        if faults.vanish and fates.random() < 0.5 * faults.vanish:
            self.agenda.after(fates.uniform(0, 60), client.vanish)
        if faults.give_up and fates.random() < 0.5 * faults.give_up:
            self.agenda.after(fates.uniform(0, 40), client.give_up)
        client.ask()

    # -------------------------------------------------------------------------------------------------------- truths

    def process(self, worker_id: int) -> Process | None:
        """The worker's process, if its instance has one."""
        instance = self.fleet.instances.get(worker_id)
        return None if instance is None else instance.process

    def processes(self) -> list[Process]:
        """All processes that run."""
        return [i.process for i in self.fleet.instances.values() if i.process is not None and i.process.alive]

    def has_room(self, endpoint_id: int) -> bool:
        """Whether the endpoint could serve another one: it is there, may have workers, and has a workergroup."""
        box = self.box
        return (
            endpoint_id in box.endpoints
            and endpoint_id not in box.deleting
            and box.endpoints[endpoint_id][1].max_workers > 0
            and any(group.endpoint_id == endpoint_id for group in box.groups.values())
        )

    def waits_on(self, endpoint_id: int) -> bool:
        """Whether somebody waits there for a worker."""
        return any(
            client.wants and client.held_at is None and client.job.endpoint_id == endpoint_id for client in self.clients
        )

    def perf_of(self, endpoint_id: int) -> float:
        """The perf of the endpoint's workers; 0: it has different ones."""
        perfs = {self.traits_of(g).perf for g in self.box.groups.values() if g.endpoint_id == endpoint_id}
        return perfs.pop() if len(perfs) == 1 else 0.0

    def endpoint_of_call(self, request_idx: int) -> int:
        """Where the client waits whose call is held open."""
        call = self.box.calls[request_idx]
        return call.job.endpoint_id if isinstance(call, Client) else 0

    # ---------------------------------------------------------------------------------------------------------- news

    def session_opened(self, process: Process, session: Session) -> None:
        """A worker opened a session."""
        self.watch.session_opened(process, session)

    def session_closed(self, process: Process, session: Session, why: str) -> None:
        """A session ended."""
        self._news_at = self.now
        self.watch.session_closed(process, session, why)
        if session.client is not None:
            session.client.session_closed(why)

    def instance_made(self, instance: Instance) -> None:
        """An instance came into being."""
        self.watch.instance_made(instance)

    def instance_removed(self, instance: Instance) -> None:
        """An instance is no more."""
        self.watch.instance_removed(instance)

    def held(self, client: Client) -> None:
        """A client has its reservation."""
        self.watch.held(client)

    def client_over(self, client: Client) -> None:
        """A client is done."""
        self._news_at = self.now
        self.wanting -= 1
        self.watch.client_over(client)
