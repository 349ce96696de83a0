"""The truth of a simulated world, for reading: what the checkers hold the engine's decisions against."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from nullworker.core.engine import Engine
    from nullworker.core.events import RestoredReservation, RestoredWorker
    from nullworker.core.parameters import Parameters, WorkergroupSpec
    from nullworker.simulation.clients import Client
    from nullworker.simulation.context import Context
    from nullworker.simulation.driver import SimulatedDriver
    from nullworker.simulation.fleet import Fleet, Instance
    from nullworker.simulation.hooks import Call
    from nullworker.simulation.plan import Plan
    from nullworker.simulation.process import Process


class Truth:
    """A view: nothing can be changed through it, and `later` only lets a checker look again."""

    def __init__(
        self, context: Context, plan: Plan, driver: SimulatedDriver, fleet: Fleet, clients: Sequence[Client]
    ) -> None:
        self._context = context
        self._driver = driver
        self._fleet = fleet
        self.plan = plan
        self.clients = clients
        #: Whether no fault is on at all.
        self.calm = not plan.faults.names()
        #: Whether the engine's clock is, at times, another than the world's.
        self.clock_was_changed = bool(plan.faults.clock_forward or plan.faults.clock_backward or plan.faults.pause)
        #: Whether costs and perfs are not all 100, so that a reservation is not a worker.
        self.uneven = any(job.cost != 100.0 for job in plan.jobs) or any(k.perf != 100.0 for k in plan.kinds.values())
        #: Whether the world has settled for good: all faults are over, and every client is done.
        self.resting = False

    # ----------------------------------------------------------------------------------------------------------- time

    @property
    def now(self) -> float:
        """The true time in seconds."""
        return self._context.queue.now

    def later(self, delay_s: float, check: Callable[..., object], *arguments: object) -> None:
        """Calls ``check(*arguments)`` in ``delay_s`` seconds."""
        self._context.queue.after(delay_s, check, *arguments)

    @property
    def half_open(self) -> float:
        """How strong the fault is now that a connection that broke is not noticed."""
        return self._context.faults.half_open

    # ------------------------------------------------------------------------------------------------------ the engine

    @property
    def engine(self) -> Engine | None:
        """The engine that runs now, for reading; None while it is down."""
        return self._driver.engine

    @property
    def clock(self) -> float:
        """The engine's clock now."""
        return self._driver.clock

    @property
    def away_until(self) -> float:
        """By the engine's clock: the last time that it stood still, or its clock jumped."""
        return self._driver.away_until

    @property
    def events(self) -> int:
        """Events that the engines have handled so far."""
        return self._driver.events

    @property
    def generation(self) -> int:
        """The number of the engine: 1, and one more after each kill."""
        return self._driver.generation

    @property
    def started_at(self) -> float:
        """When the engine was started, by the true time."""
        return self._driver.started_at

    @property
    def paused_until(self) -> float:
        """The engine stands still until then, by the true time."""
        return self._driver.paused_until

    @property
    def calls(self) -> Mapping[int, Call]:
        """The /route/ calls that the engine holds open, by request_idx."""
        return self._driver.calls

    @property
    def endpoints(self) -> Mapping[int, tuple[str, Parameters]]:
        """Name and parameters of each endpoint, as operators want them."""
        return self._driver.endpoints

    @property
    def deleting(self) -> Mapping[int, bool]:
        """Endpoints that operators have deleted, and that are not gone yet."""
        return self._driver.deleting

    @property
    def workergroups(self) -> Mapping[int, WorkergroupSpec]:
        """Workergroups as operators want them."""
        return self._driver.groups

    @property
    def stored_workers(self) -> Mapping[int, RestoredWorker]:
        """What is written down of workers, and survives a kill."""
        self._driver.store.commit_due(self.now)
        return self._driver.store.workers

    @property
    def stored_reservations(self) -> Mapping[int, RestoredReservation]:
        """What is written down of reservations, and survives a kill."""
        self._driver.store.commit_due(self.now)
        return self._driver.store.reservations

    def noted_reservations(self) -> Mapping[int, RestoredReservation]:
        """The reservations as they will be written when all that was noted is."""
        return self._driver.store.noted_reservations()

    # ------------------------------------------------------------------------------------------------------- the fleet

    @property
    def instances(self) -> Mapping[int, Instance]:
        """The instances that there really are, by worker."""
        return self._fleet.instances

    @property
    def coming(self) -> AbstractSet[int]:
        """Workers whose creation was ordered and is neither done nor refused."""
        return self._fleet.coming.keys()

    @property
    def instances_ever(self) -> AbstractSet[int]:
        """Every id that an instance had or was ordered under."""
        return self._fleet.ever

    def process(self, worker_id: int) -> Process | None:
        """The worker's process, if its instance has one."""
        return self._fleet.process(worker_id)

    def processes(self) -> list[Process]:
        """All processes that run."""
        return self._fleet.processes()

    # ------------------------------------------------------------------------------------------------------- endpoints

    def has_room(self, endpoint_id: int) -> bool:
        """Whether the endpoint could serve another one: it is there, may have workers, and has a workergroup."""
        return (
            endpoint_id in self.endpoints
            and endpoint_id not in self.deleting
            and self.endpoints[endpoint_id][1].max_workers > 0
            and any(group.endpoint_id == endpoint_id for group in self.workergroups.values())
        )

    def waits_on(self, endpoint_id: int) -> bool:
        """Whether a client waits there for a worker."""
        return any(
            client.wants and client.held_at is None and client.job.endpoint_id == endpoint_id for client in self.clients
        )

    def perf_of(self, endpoint_id: int) -> float:
        """The perf of the endpoint's workers; 0: it has different ones."""
        perfs = {self.plan.kind_of(g).perf for g in self.workergroups.values() if g.endpoint_id == endpoint_id}
        return perfs.pop() if len(perfs) == 1 else 0.0
