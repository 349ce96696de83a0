"""A simulated fleet: instances as they really are, orders that are slow, fail or lie about it, and lists that lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nullworker.simulation.network import Link
from nullworker.simulation.process import Process, ProcessLinks, WorkerKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.context import Context

#: The engine stops waiting for the answer to an order after this.
ORDER_TIMEOUT_S = 60.0
LAG_MAX_S = 50.0


@dataclass(slots=True, eq=False)
class Instance:
    """One instance, under our mark."""

    worker_id: int
    endpoint_id: int
    kind: WorkerKind
    made_at: float
    process: Process | None = None
    state: str = "running"  # running, stopped, exited; gone ones are in `Fleet.ghosts`
    started_at: float = 0.0


class FleetLinks(NamedTuple):
    """Who is told of what a fleet does, and what chance brings to its instances."""

    process: ProcessLinks
    exited: Callable[[int, str], None]  # to the engine: an instance ended by itself
    made: Callable[[Instance], None]
    removed: Callable[[Instance], None]
    booted: Callable[[Instance, Process, float], None]  # a process boots, and takes so many seconds
    never_gets_ready: Callable[[], bool]  # whether the one that boots now loads for ever
    boot_s: Callable[[], float]
    restart_s: Callable[[], float]


class Fleet:
    """Where the world's workers run. ``instances`` is the truth."""

    _links: FleetLinks

    def __init__(self, context: Context, name: str) -> None:
        self.context = context
        self.name = name
        self.boots = 0
        self.instances: dict[int, Instance] = {}
        #: Creates that were ordered and are not answered yet.
        self.coming: dict[int, int] = {}
        self.ghosts: dict[int, float] = {}
        self.ever: set[int] = set()  # every id that was ours
        self.out_until = 0.0
        self._busy_until: dict[int, float] = {}

    def connect(self, links: FleetLinks) -> None:
        """Says who is told of what happens: once, before anything does."""
        self._links = links

    # -------------------------------------------------------------------------------------------------------- orders

    def order(
        self, verb: str, worker_id: int, endpoint_id: int, kind: WorkerKind, answer: Callable[[str, bool], None]
    ) -> None:
        """Carries an order out, some time later. ``answer(detail, definite)``: detail "" when it is done."""
        context = self.context
        self.ever.add(worker_id)
        if verb == "create":
            self.coming[worker_id] = endpoint_id
        takes_s = context.random.uniform(0.02, 0.4)
        if context.faults.slow and context.random.random() < 0.5:
            takes_s += context.random.uniform(0, 100 * context.faults.slow)
        begins = max(context.now, self._busy_until.get(worker_id, 0.0))
        self._busy_until[worker_id] = begins + takes_s
        context.queue.at(begins + takes_s, self._carry_out, verb, worker_id, endpoint_id, kind, answer)

    def _carry_out(
        self, verb: str, worker_id: int, endpoint_id: int, kind: WorkerKind, answer: Callable[[str, bool], None]
    ) -> None:
        context, faults, random = self.context, self.context.faults, self.context.random
        later = context.queue.after
        if context.network.cut_until[Link.ENGINE_FLEET] > context.now:
            self.coming.pop(worker_id, None)
            later(ORDER_TIMEOUT_S, answer, "no answer", False)
            return
        if self.out_until > context.now or (faults.refuse and random.random() < 0.6 * faults.refuse):
            self.coming.pop(worker_id, None)
            answer("no capacity" if verb == "create" else "try again later", True)
            return
        if faults.unclear and random.random() < 0.4 * faults.unclear:
            self._unclear(verb, worker_id, endpoint_id, kind)
            later(random.choice([0.0, ORDER_TIMEOUT_S]), answer, "bad gateway", False)
            return
        if verb in ("stop", "destroy") and faults.ignored and random.random() < 0.4 * faults.ignored:
            answer("", True)
            return
        failure = self._do(verb, worker_id, endpoint_id, kind)
        if faults.answers_lost and random.random() < 0.2 * faults.answers_lost:
            later(ORDER_TIMEOUT_S, answer, "no answer", False)
        else:
            answer(failure, True)

    def _unclear(self, verb: str, worker_id: int, endpoint_id: int, kind: WorkerKind) -> None:
        """The order fails, and the engine cannot know whether it was carried out."""
        random = self.context.random
        if random.random() < 0.5:
            self._do(verb, worker_id, endpoint_id, kind)
        elif verb == "create" and self.context.faults.appear_late:
            self.context.queue.after(
                random.uniform(1, LAG_MAX_S * self.context.faults.appear_late),
                self._do,
                verb,
                worker_id,
                endpoint_id,
                kind,
            )
        else:
            self.coming.pop(worker_id, None)

    def _do(self, verb: str, worker_id: int, endpoint_id: int, kind: WorkerKind) -> str:
        instance = self.instances.get(worker_id)
        if verb == "create":
            self.coming.pop(worker_id, None)
            if instance is None:
                self.make(worker_id, endpoint_id, kind)
            return ""
        if verb == "destroy":
            if instance is not None:
                self.remove(instance, "destroyed")
            return ""
        if instance is None:
            return f"there is no instance {worker_id}"
        if verb == "stop" and instance.state == "running":
            self._end_process(instance, "stopped")
            instance.state = "stopped"
        elif verb == "start" and instance.state != "running":
            self._boot(instance, self._links.restart_s())
        return ""

    # ----------------------------------------------------------------------------------------------------- instances

    def make(self, worker_id: int, endpoint_id: int, kind: WorkerKind) -> Instance:
        """An instance comes into being, and boots."""
        instance = Instance(worker_id, endpoint_id, kind, self.context.now)
        self.instances[worker_id] = instance
        self.ever.add(worker_id)
        self._boot(instance, self._links.boot_s())
        self._links.made(instance)
        return instance

    def _boot(self, instance: Instance, seconds: float) -> None:
        context = self.context
        instance.state, instance.started_at = "running", context.now
        self.boots += 1
        process = instance.process = Process(
            self.context, self._links.process, instance.worker_id, instance.kind, self.boots
        )
        context.queue.after(0.3 * seconds, self._begin, process)
        if not self._links.never_gets_ready():
            context.queue.after(seconds, process.get_ready)
        self._links.booted(instance, process, seconds)

    @staticmethod
    def _begin(process: Process) -> None:
        if process.alive:
            process.begin()

    def restart_process(self, instance: Instance) -> None:
        """The process dies and a new one takes its place under the same id, as the worker's own supervisor does it."""
        self._end_process(instance, "restarted")
        self._boot(instance, min(8.0, self._links.restart_s()))

    def _end_process(self, instance: Instance, why: str) -> None:
        if instance.process is not None:
            instance.process.die(why)
            instance.process = None

    def remove(self, instance: Instance, why: str) -> None:
        """The instance is no more."""
        self._end_process(instance, why)
        self.instances.pop(instance.worker_id, None)
        self.ghosts[instance.worker_id] = self.context.now
        self._links.removed(instance)

    def crash(self, instance: Instance) -> None:
        """The instance's process ends by itself; the instance stays, as one that has exited."""
        if instance.state == "running":
            self._end_process(instance, "crashed")
            instance.state = "exited"
            self._announce(instance.worker_id, "exit code 1")

    def take_away(self, instance: Instance) -> None:
        """The fleet's owner takes the instance back."""
        if instance.worker_id in self.instances:
            self.remove(instance, "pre-empted")
            self._announce(instance.worker_id, "pre-empted")

    def _announce(self, worker_id: int, detail: str) -> None:
        context = self.context
        if not (context.faults.unannounced and context.random.random() < context.faults.unannounced):
            context.network.send(Link.ENGINE_FLEET, self._links.exited, worker_id, detail)

    def process(self, worker_id: int) -> Process | None:
        """The worker's process, if its instance has one."""
        instance = self.instances.get(worker_id)
        return None if instance is None else instance.process

    def processes(self) -> list[Process]:
        """All processes that run."""
        return [i.process for i in self.instances.values() if i.process is not None and i.process.alive]

    # --------------------------------------------------------------------------------------------------------- lists

    def list(self) -> tuple[tuple[int, str], ...] | None:
        """What the fleet says that it has; None: it does not answer."""
        context, faults = self.context, self.context.faults
        if context.network.cut_until[Link.ENGINE_FLEET] > context.now or self.out_until > context.now:
            return None
        hidden_after = context.now - LAG_MAX_S * faults.misses if faults.misses else context.now
        shown = {i.worker_id: i.state for i in self.instances.values() if i.made_at <= hidden_after}
        for worker_id, gone_at in list(self.ghosts.items()):
            if gone_at < context.now - LAG_MAX_S:
                del self.ghosts[worker_id]
            elif faults.ghosts and gone_at >= context.now - LAG_MAX_S * faults.ghosts:
                shown.setdefault(worker_id, "running")
        return tuple(shown.items())
