"""A fleet in memory, for tests of code that uses a fleet: it keeps every rule, except those it is told to break.

    world = MemoryWorld()
    fleet = await MemoryFleet.open({"world": world}, "my-mark", on_exit)
    world.fail("create", after_effect=True)      # the next create takes effect, and its answer is lost
    world.crash("my-mark", 7, "exit code 1")   # on_exit(7, "exit code 1")

The world holds the instances: it outlives the fleets that are opened in it, as a cloud outlives an engine. Nothing here
reads a clock or sleeps, except for `MemoryWorld.slow`, whose ``sleep`` can be that of a clock moved by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nullworker.fleets.base import Fleet, FleetError, Instance, InstanceState, ShortageError, no_notice
from nullworker.fleets.keyed_queue import KeyedQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from nullworker.fleets.base import InstanceSpec, Notice

VERBS = ("create", "start", "stop", "destroy", "list")


@dataclass(slots=True)
class MemoryInstance:
    """What the world truly has. ``runs`` counts how often it was set running."""

    spec: InstanceSpec
    state: InstanceState = InstanceState.RUNNING
    detail: str = ""
    runs: int = 1
    log: bytes = b""
    address: str = ""


@dataclass(slots=True)
class _Fault:
    verb: str
    worker_id: int | None
    after_effect: bool
    definite: bool
    message: str
    times: int


class MemoryWorld:
    """Where the instances of any number of memory fleets are, and where faults are planted."""

    def __init__(self, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Makes an empty world; ``sleep(seconds)`` is what `slow` waits with."""
        #: All instances there are, by mark and worker id.
        self.instances: dict[tuple[str, int], MemoryInstance] = {}
        #: Every verb that a fleet was asked for, as (verb, worker id), 0 for ``list``; failed ones too.
        self.calls: list[tuple[str, int]] = []
        self._sleep = sleep
        self._called = asyncio.Event()
        self._fleets: dict[str, list[MemoryFleet]] = defaultdict(list)
        self._faults: list[_Fault] = []
        self._delays_s: dict[str, float] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._lies: dict[tuple[str, int], Instance | None] = {}
        self._shortage = ""
        self._is_silent = False
        self._is_standing = False

    def state(self, mark: str, worker_id: int) -> InstanceState | None:
        """The true state of an instance; None when there is none."""
        instance = self.instances.get((mark, worker_id))
        return instance.state if instance else None

    def fail(
        self,
        verb: str,
        *,
        worker_id: int | None = None,
        after_effect: bool = False,
        definite: bool | None = None,
        times: int = 1,
        message: str = "",
    ) -> None:
        """Makes the next ``times`` calls of ``verb`` raise `FleetError`.

        Args:
            verb: create, start, stop, destroy or list.
            worker_id: for this worker alone; None: for any.
            after_effect: the verb takes effect before it fails, as when an answer is lost.
            definite: of the error; by default True exactly when the verb took no effect.
            times: how many calls fail.
            message: the error's message; there is a default.
        """
        _check_verb(verb)
        said = (not after_effect) if definite is None else definite
        text = message or f"The memory fleet was told to fail at {verb}."
        self._faults.append(_Fault(verb, worker_id, after_effect, said, text, times))

    def slow(self, verb: str, delay_s: float) -> None:
        """Makes each further call of ``verb`` take ``delay_s`` seconds before it is done; 0 ends that."""
        _check_verb(verb)
        self._delays_s[verb] = delay_s

    def hold(self, verb: str) -> None:
        """Makes each further call of ``verb`` wait, before it is done, until `release`."""
        _check_verb(verb)
        self._gates[verb] = asyncio.Event()

    def release(self, verb: str) -> None:
        """Continues the calls of ``verb`` that wait; further ones do not wait."""
        gate = self._gates.pop(verb, None)
        if gate is not None:
            gate.set()

    async def wait_called(self, verb: str, times: int = 1) -> None:
        """Returns when ``verb`` was asked for so many times since the world was made."""
        _check_verb(verb)
        while sum(called == verb for called, _ in self.calls) < times:
            self._called.clear()
            await self._called.wait()

    def be_short(self, reason: str) -> None:
        """Makes each further create of what is not there yet raise `ShortageError` with ``reason``; "" ends that."""
        self._shortage = reason

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """A period in which each call fails, and has no effect, which its error cannot say."""
        self._is_silent = True
        try:
            yield
        finally:
            self._is_silent = False

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """A period in which what is created is there, and does not begin: its ``runs`` are 0."""
        self._is_standing = True
        try:
            yield
        finally:
            self._is_standing = False

    def give_notice(self, mark: str, notice: Notice) -> None:
        """Calls ``on_notice`` of the fleets that are open under a mark."""
        for fleet in tuple(self._fleets[mark]):
            fleet.on_notice(notice)

    def make(self, mark: str, spec: InstanceSpec) -> None:
        """Makes an instance, if it is not there.

        Raises:
            ShortageError: the world is short.
        """
        if (mark, spec.worker_id) not in self.instances and self._shortage:
            raise ShortageError(self._shortage)
        self.instances.setdefault((mark, spec.worker_id), MemoryInstance(spec, runs=int(not self._is_standing)))

    def lie(self, mark: str, worker_id: int, state: InstanceState | None) -> None:
        """Makes ``list`` show ``state`` for a worker, whether it exists or not; None: not list it.

        Args:
            mark: the fleet's.
            worker_id: the worker.
            state: what is listed.
        """
        shown = Instance(worker_id, state, "a lie") if state is not None else None
        self._lies[mark, worker_id] = shown

    def be_honest(self) -> None:
        """Ends every `lie`."""
        self._lies.clear()

    def crash(self, mark: str, worker_id: int, detail: str = "exit code 1") -> None:
        """Ends an instance as if by itself, and calls ``on_exit`` of the fleets that are open under its mark.

        Args:
            mark: the fleet's.
            worker_id: the worker.
            detail: how it ended.

        Raises:
            KeyError: there is no such instance.
        """
        instance = self.instances[mark, worker_id]
        if instance.state is InstanceState.RUNNING:
            instance.state, instance.detail = InstanceState.EXITED, detail
            for fleet in tuple(self._fleets[mark]):
                fleet.on_exit(worker_id, detail)

    def lose(self, mark: str, worker_id: int) -> None:
        """Removes an instance without calling any fleet's ``on_exit``.

        Raises:
            KeyError: there is no such instance.
        """
        del self.instances[mark, worker_id]

    def enter(self, mark: str, fleet: MemoryFleet) -> None:
        """A fleet is opened in this world."""
        self._fleets[mark].append(fleet)

    def leave(self, mark: str, fleet: MemoryFleet) -> None:
        """A fleet is closed."""
        self._fleets[mark].remove(fleet)

    def listed(self, mark: str) -> list[Instance]:
        """What ``list`` says."""
        said = {
            worker_id: Instance(worker_id, instance.state, instance.detail, instance.address)
            for (whose, worker_id), instance in self.instances.items()
            if whose == mark
        }
        for (whose, worker_id), shown in self._lies.items():
            if whose == mark:
                said.pop(worker_id, None)
                if shown is not None:
                    said[worker_id] = shown
        return [said[worker_id] for worker_id in sorted(said)]

    async def call(self, verb: str, worker_id: int, effect: Callable[[], None]) -> None:
        """Carries out a verb, with the faults that are planted for it.

        Args:
            verb: create, start, stop, destroy or list.
            worker_id: the worker; 0 for ``list``.
            effect: changes the world.

        Raises:
            FleetError: a fault says so.
        """
        self.calls.append((verb, worker_id))
        self._called.set()
        if self._is_silent:
            raise FleetError("The memory fleet's world does not answer.", definite=False)
        fault = self._take_fault(verb, worker_id)
        delay_s = self._delays_s.get(verb, 0.0)
        if delay_s > 0:
            await self._sleep(delay_s)
        gate = self._gates.get(verb)
        if gate is not None:
            await gate.wait()
        if fault is None or fault.after_effect:
            effect()
        if fault is not None:
            raise FleetError(fault.message, definite=fault.definite)

    def _take_fault(self, verb: str, worker_id: int) -> _Fault | None:
        for fault in self._faults:
            if fault.verb == verb and fault.worker_id in (None, worker_id):
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return None


class MemoryFleet:
    """A fleet in a `MemoryWorld`."""

    def __init__(self, world: MemoryWorld, mark: str, on_exit: Callable[[int, str], None]) -> None:
        """Use `open`."""
        self._world = world
        self._mark = mark
        self.on_exit = on_exit
        self.on_notice: Callable[[Notice], None] = no_notice
        self._queue = KeyedQueue()
        self._closed = False

    @classmethod
    async def open(
        cls,
        settings: Mapping[str, object],
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None] = no_notice,
    ) -> MemoryFleet:
        """Opens a fleet in the world that is in ``settings["world"]``. See `Fleet.open`.

        Raises:
            FleetError: there is no world in the settings.
        """
        world = settings.get("world")
        if not isinstance(world, MemoryWorld):
            raise FleetError("The memory fleet needs a MemoryWorld as its setting 'world'.")
        fleet = cls(world, mark, on_exit)
        fleet.on_notice = on_notice
        world.enter(mark, fleet)
        return fleet

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:
        """Knows every backend but those in ``settings["unknown_backends"]``. See `Fleet.check_backend`.

        Raises:
            FleetError: it is one of those.
        """
        unknown = settings.get("unknown_backends", ())
        if isinstance(unknown, (list, tuple)) and backend in unknown:
            raise FleetError(f"The memory fleet was told not to know the backend {backend!r}.")

    async def create(self, spec: InstanceSpec) -> None:
        """See `Fleet.create`."""
        await self._enqueue("create", spec.worker_id, partial(self._world.make, self._mark, spec))

    async def start(self, worker_id: int) -> None:
        """See `Fleet.start`."""

        def effect() -> None:
            instance = self._known(worker_id)
            if instance.state is not InstanceState.RUNNING:
                instance.state, instance.detail = InstanceState.RUNNING, ""
                instance.runs += 1

        await self._enqueue("start", worker_id, effect)

    async def stop(self, worker_id: int) -> None:
        """See `Fleet.stop`."""

        def effect() -> None:
            instance = self._known(worker_id)
            instance.state, instance.detail = InstanceState.STOPPED, ""

        await self._enqueue("stop", worker_id, effect)

    async def destroy(self, worker_id: int) -> None:
        """See `Fleet.destroy`."""
        await self._enqueue("destroy", worker_id, partial(self._remove, worker_id))

    async def list(self) -> list[Instance]:
        """See `Fleet.list`."""
        self._check_open()
        await self._world.call("list", 0, lambda: None)
        return self._world.listed(self._mark)

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """See `Fleet.read_log`."""
        self._check_open()
        instance = self._world.instances.get((self._mark, worker_id))
        return instance.log[-bytes_max:] if instance and bytes_max > 0 else b""

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:  # noqa: ARG002 - part of the interface; here nothing takes time to end
        """See `Fleet.close`."""
        if self._closed:
            return
        self._closed = True
        await self._queue.wait_idle()
        self._world.leave(self._mark, self)
        if destroy:
            for mark, worker_id in tuple(self._world.instances):
                if mark == self._mark:
                    await self._world.call("destroy", worker_id, partial(self._remove, worker_id))

    def _remove(self, worker_id: int) -> None:
        self._world.instances.pop((self._mark, worker_id), None)

    def _known(self, worker_id: int) -> MemoryInstance:
        instance = self._world.instances.get((self._mark, worker_id))
        if instance is None:
            raise FleetError(f"The memory fleet has no instance of worker {worker_id}.")
        return instance

    async def _enqueue(self, verb: str, worker_id: int, effect: Callable[[], None]) -> None:
        self._check_open()
        await self._queue.run(worker_id, lambda: self._world.call(verb, worker_id, effect))

    def _check_open(self) -> None:
        if self._closed:
            raise FleetError("The memory fleet is closed.")


def _check_verb(verb: str) -> None:
    if verb not in VERBS:
        raise ValueError(f"{verb!r} is no verb of a fleet: {', '.join(VERBS)} are.")


_: type[Fleet] = MemoryFleet
