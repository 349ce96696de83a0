"""A simulated fleet: instances as they really are, orders that are slow, fail or lie about it, and lists that lag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.simulation.network import Link
from nullworker.simulation.process import Process, Traits

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.world import World

#: Whoever gives an order gives up waiting for its answer after this.
ORDER_TIMEOUT_S = 60.0
LAG_MAX_S = 50.0


@dataclass(slots=True, eq=False)
class Instance:
    """One instance, under our mark."""

    worker_id: int
    endpoint_id: int
    traits: Traits
    made_at: float
    process: Process | None = None
    state: str = "running"  # running, stopped, exited; gone ones are in `Fleet.ghosts`
    started_at: float = 0.0


class Fleet:
    """Where the world's workers run. ``instances`` is the truth."""

    def __init__(self, world: World, name: str, boot_s: Callable[[], float], restart_s: Callable[[], float]) -> None:
        self.world = world
        self.name = name
        self.instances: dict[int, Instance] = {}
        #: Creates that were ordered and are not answered yet.
        self.coming: dict[int, int] = {}
        self.ghosts: dict[int, float] = {}
        self.ever: set[int] = set()  # every id that was ours
        self.out_until = 0.0
        self._boot_s, self._restart_s = boot_s, restart_s
        self._busy_until: dict[int, float] = {}

    # -------------------------------------------------------------------------------------------------------- orders

    def order(
        self, verb: str, worker_id: int, endpoint_id: int, traits: Traits, answer: Callable[[str, bool], None]
    ) -> None:
        """Carries an order out, some time later. ``answer(detail, definite)``: detail "" when it is done."""
        world = self.world
        self.ever.add(worker_id)
        if verb == "create":
            self.coming[worker_id] = endpoint_id
        takes_s = world.random.uniform(0.02, 0.4)
        if world.faults.slow and world.random.random() < 0.5:
            takes_s += world.random.uniform(0, 100 * world.faults.slow)
        begins = max(world.now, self._busy_until.get(worker_id, 0.0))
        self._busy_until[worker_id] = begins + takes_s
        world.agenda.at(begins + takes_s, self._carry_out, verb, worker_id, endpoint_id, traits, answer)

    def _carry_out(
        self, verb: str, worker_id: int, endpoint_id: int, traits: Traits, answer: Callable[[str, bool], None]
    ) -> None:
        world, faults, random = self.world, self.world.faults, self.world.random
        later = world.agenda.after
        if world.network.cut_until[Link.ENGINE_FLEET] > world.now:
            self.coming.pop(worker_id, None)
            later(ORDER_TIMEOUT_S, answer, "no answer", False)
            return
        if self.out_until > world.now or (faults.refuse and random.random() < 0.6 * faults.refuse):
            self.coming.pop(worker_id, None)
            answer("no capacity" if verb == "create" else "try again later", True)
            return
        if faults.unclear and random.random() < 0.4 * faults.unclear:
            self._unclear(verb, worker_id, endpoint_id, traits)
            later(random.choice([0.0, ORDER_TIMEOUT_S]), answer, "bad gateway", False)
            return
        if verb in ("stop", "destroy") and faults.ignored and random.random() < 0.4 * faults.ignored:
            answer("", True)
            return
        failure = self._do(verb, worker_id, endpoint_id, traits)
        if faults.answers_lost and random.random() < 0.2 * faults.answers_lost:
            later(ORDER_TIMEOUT_S, answer, "no answer", False)
        else:
            answer(failure, True)

    def _unclear(self, verb: str, worker_id: int, endpoint_id: int, traits: Traits) -> None:
        """The order fails, and who gave it cannot know whether it was carried out."""
        random = self.world.random
        if random.random() < 0.5:
            self._do(verb, worker_id, endpoint_id, traits)
        elif verb == "create" and self.world.faults.appear_late:
            self.world.agenda.after(
                random.uniform(1, LAG_MAX_S * self.world.faults.appear_late),
                self._do,
                verb,
                worker_id,
                endpoint_id,
                traits,
            )
        else:
            self.coming.pop(worker_id, None)

    def _do(self, verb: str, worker_id: int, endpoint_id: int, traits: Traits) -> str:
        instance = self.instances.get(worker_id)
        if verb == "create":
            self.coming.pop(worker_id, None)
            if instance is None:
                self.make(worker_id, endpoint_id, traits)
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
            self._boot(instance, self._restart_s())
        return ""

    # ----------------------------------------------------------------------------------------------------- instances

    def make(self, worker_id: int, endpoint_id: int, traits: Traits) -> Instance:
        """An instance comes into being, and boots."""
        instance = Instance(worker_id, endpoint_id, traits, self.world.now)
        self.instances[worker_id] = instance
        self.ever.add(worker_id)
        self._boot(instance, self._boot_s())
        self.world.instance_made(instance)
        return instance

    def _boot(self, instance: Instance, seconds: float) -> None:
        world = self.world
        instance.state, instance.started_at = "running", world.now
        process = instance.process = Process(world, instance.worker_id, instance.traits)
        world.agenda.after(0.3 * seconds, self._begin, process)
        if not world.trouble.never_gets_ready():
            world.agenda.after(seconds, process.get_ready)
        world.trouble.booted(instance, process, seconds)

    @staticmethod
    def _begin(process: Process) -> None:
        if process.alive:
            process.begin()

    def restart_process(self, instance: Instance) -> None:
        """The process dies and a new one takes its place under the same id, as the worker's own supervisor does it."""
        self._end_process(instance, "restarted")
        self._boot(instance, min(8.0, self._restart_s()))

    def _end_process(self, instance: Instance, why: str) -> None:
        if instance.process is not None:
            instance.process.die(why)
            instance.process = None

    def remove(self, instance: Instance, why: str) -> None:
        """The instance is no more."""
        self._end_process(instance, why)
        self.instances.pop(instance.worker_id, None)
        self.ghosts[instance.worker_id] = self.world.now
        self.world.instance_removed(instance)

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
        world = self.world
        if not (world.faults.unannounced and world.random.random() < world.faults.unannounced):
            world.network.send(Link.ENGINE_FLEET, world.box.instance_exited, worker_id, detail)

    # --------------------------------------------------------------------------------------------------------- lists

    def list(self) -> tuple[tuple[int, str], ...] | None:
        """What the fleet says that it has; None: it does not answer."""
        world, faults = self.world, self.world.faults
        if world.network.cut_until[Link.ENGINE_FLEET] > world.now or self.out_until > world.now:
            return None
        hidden_after = world.now - LAG_MAX_S * faults.misses if faults.misses else world.now
        shown = {i.worker_id: i.state for i in self.instances.values() if i.made_at <= hidden_after}
        for worker_id, gone_at in list(self.ghosts.items()):
            if gone_at < world.now - LAG_MAX_S:
                del self.ghosts[worker_id]
            elif faults.ghosts and gone_at >= world.now - LAG_MAX_S * faults.ghosts:
                shown.setdefault(worker_id, "running")
        return tuple(shown.items())
