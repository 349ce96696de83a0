"""What the conformance kit for fleets works with: an opened fleet, limits of time, and what its place may do wrong.

`nullworker.testing.fleets.check_fleet` is the way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from nullworker.fleets.base import EndsSoon, Fleet, FleetError, InstanceSpec
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from nullworker.fleets.base import Instance, InstanceState, Notice

    OnExit = Callable[[int, str], None]
    OnNotice = Callable[[Notice], None]
    MakeFleet = Callable[[str, OnExit, OnNotice], Awaitable[Fleet]]
    #: ``(fleet, mark, worker id)``: something happens to an instance.
    Happens = Callable[[Fleet, str, int], Awaitable[None]]
    #: ``(fleet, mark)``: a context in which the place is as said.
    Period = Callable[[Fleet, str], AbstractAsyncContextManager[None]]

T = TypeVar("T")
#: Error messages are one sentence for a terminal.
MESSAGE_CHARACTERS_MAX = 600


@dataclass(frozen=True, slots=True)
class PlaceFaults:
    """What the place of a fleet does wrong, or of itself, when the test has it do so; None: it cannot.

    A place that cannot do one of these (a process of this machine whose creation has no answer to lose) leaves it out,
    and `check_fleet` says what was not checked for that.
    """

    #: What is created is created, and the place's answer never comes.
    lost_answer: Period | None = None
    #: The place answers nothing at all.
    silence: Period | None = None
    #: What is told to end goes on, though the place says that it was done.
    kept: Period | None = None
    #: What is created exists, and does not begin to run.
    unstarted: Period | None = None
    #: The place says that it will end an instance, which it does not yet.
    ends_soon: Happens | None = None
    #: An instance is reached at another address from now on.
    moved: Happens | None = None
    #: How many instances the place itself has under a mark: none may be left that the fleet does not know of.
    count: Callable[[str], int] | None = None


def plain_spec(worker_id: int) -> InstanceSpec:
    """An instance that needs nothing but to run: a null worker whose engine is not there."""
    return InstanceSpec(
        worker_id=worker_id,
        endpoint="check-fleet",
        workergroup_id=1,
        backend="null",
        report_addr="http://127.0.0.1:9",
        worker_token=secrets.token_hex(16),
    )


@dataclass(slots=True)
class OpenedFleet:
    """A fleet under test, with what it announced."""

    kit: FleetKit
    mark: str
    fleet: Fleet = field(init=False)
    exits: list[tuple[int, str]] = field(default_factory=list)
    ends: list[EndsSoon] = field(default_factory=list)
    noticed: asyncio.Event = field(default_factory=asyncio.Event)
    is_closed: bool = False

    async def open(self) -> None:
        self.fleet = await self.kit.make_fleet(self.mark, self.take_exit, self.take_notice)
        assert isinstance(self.fleet, Fleet), f"{type(self.fleet).__name__} lacks a method of the Fleet protocol"

    def take_exit(self, worker_id: int, detail: str) -> None:
        self.exits.append((worker_id, detail))
        self.noticed.set()

    def take_notice(self, notice: Notice) -> None:
        if isinstance(notice, EndsSoon):
            self.ends.append(notice)

    async def create(self, *worker_ids: int) -> None:
        for worker_id in worker_ids:
            await self.kit.bounded(self.fleet.create(self.kit.make_spec(worker_id)), f"create({worker_id})")

    async def start(self, worker_id: int) -> None:
        await self.kit.bounded(self.fleet.start(worker_id), f"start({worker_id})")

    async def stop(self, worker_id: int) -> None:
        await self.kit.bounded(self.fleet.stop(worker_id), f"stop({worker_id})")

    async def destroy(self, worker_id: int) -> None:
        await self.kit.bounded(self.fleet.destroy(worker_id), f"destroy({worker_id})")

    async def close(self) -> None:
        self.is_closed = True
        await self.kit.bounded(self.fleet.close(), "close()")

    async def crash(self, worker_id: int) -> None:
        assert self.kit.crash is not None
        await self.kit.crash(self.fleet, self.mark, worker_id)

    async def lists(self, expected: dict[int, InstanceState], when: str) -> list[Instance]:
        """Asks for the list until it is ``expected``; at once, unless the kit was told that it may lag."""
        deadline = now_s() + self.kit.lag_s
        while True:
            listed = await self.kit.bounded(self.fleet.list(), "list()")
            ids = [instance.worker_id for instance in listed]
            assert len(set(ids)) == len(ids), f"{when}, list() has a worker twice: {listed}"
            seen = {instance.worker_id: instance.state for instance in listed}
            if seen == expected:
                return listed
            if now_s() >= deadline:
                raise AssertionError(f"{when}, list() should say {shown(expected)}, and says {shown(seen)}")
            await asyncio.sleep(0.02)

    async def comes_true(self, is_so: Callable[[], bool], what: str) -> None:
        """Waits for something that has no event of its own."""
        deadline = now_s() + self.kit.patience_s
        while not is_so():
            assert now_s() < deadline, f"{what}: not so after {self.kit.patience_s:g} s"
            await asyncio.sleep(0.02)

    async def done_at_last(self, verb: Callable[[], Awaitable[None]], what: str) -> None:
        """Calls a verb again as long as it fails: a place that was away needs a moment, and so does who asks it."""
        deadline = now_s() + self.kit.patience_s
        while True:
            try:
                await verb()
            except FleetError as error:
                check_message(error, what)
                if now_s() >= deadline:
                    raise AssertionError(f"{what} still fails: {error}") from error
                await asyncio.sleep(0.05)
            else:
                return

    async def leaves_nothing(self, when: str) -> None:
        """Waits until neither the fleet nor the place has anything."""
        await self.lists({}, when)
        count = self.kit.faults.count
        if count is not None:
            await self.comes_true(lambda: count(self.mark) == 0, f"{when}, the place should have nothing")

    async def announces(self, expected: list[int], when: str) -> None:
        """Waits until exactly the ``expected`` workers were announced to have ended, and listens a little longer."""
        deadline = now_s() + self.kit.patience_s
        while len(self.exits) < len(expected) and now_s() < deadline:
            self.noticed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await within(self.noticed.wait(), self.kit.patience_s)
        await asyncio.sleep(self.kit.quiet_s)
        seen = [worker_id for worker_id, _ in self.exits]
        assert seen == expected, f"{when}, on_exit should have been called for {expected}, and was for {seen}"
        for worker_id, detail in self.exits:
            assert detail.strip(), f"on_exit for worker {worker_id} should say how it ended"

    async def refuses(self, call: Callable[[], Awaitable[object]], what: str) -> FleetError:
        try:
            await self.kit.bounded(call(), what)
        except FleetError as error:
            check_message(error, what)
            return error
        raise AssertionError(f"{what} should raise FleetError")


def now_s() -> float:
    """The event loop's time, which its limits are kept by: a test may run in a loop with a clock of its own."""
    return asyncio.get_running_loop().time()


def check_message(error: FleetError, what: str) -> None:
    message = str(error)
    assert message.strip(), f"{what}: the FleetError has no message"
    assert "\n" not in message, f"{what}: the message has several lines: {message!r}"
    assert len(message) <= MESSAGE_CHARACTERS_MAX, f"{what}: the message is too long: {message!r}"
    assert message.rstrip().endswith((".", "!", "?", ")")), f"{what}: the message is not a sentence: {message!r}"


@dataclass(slots=True)
class FleetKit:
    make_fleet: MakeFleet
    crash: Happens | None
    shortage: Period | None
    faults: PlaceFaults
    make_spec: Callable[[int], InstanceSpec]
    settings: Mapping[str, object]
    lag_s: float
    quiet_s: float
    patience_s: float

    async def bounded(self, call: Awaitable[T], what: str) -> T:
        """Awaits a call of the fleet for so long and no longer: its verbs are bounded in time."""
        try:
            return await within(call, self.patience_s)
        except asyncio.TimeoutError:
            raise AssertionError(f"{what} took more than {self.patience_s:g} s") from None

    @contextlib.asynccontextmanager
    async def opened(self, mark: str = "") -> AsyncIterator[OpenedFleet]:
        """A fleet under a mark that is the check's own; what is there under it at the end is destroyed."""
        mark = mark or f"check-{secrets.token_hex(4)}"
        it = OpenedFleet(self, mark)
        is_clean = False
        try:
            await it.open()
            yield it
            if not it.is_closed:
                await self.bounded(it.fleet.close(destroy=True, grace_s=0.0), "close(destroy=True)")
                is_clean = True
        finally:
            if not is_clean:
                if hasattr(it, "fleet"):  # else it could not be opened
                    await self.bounded(it.fleet.close(), "close()")
                cleaner = await self.make_fleet(mark, ignore, ignore)
                await self.bounded(cleaner.close(destroy=True, grace_s=0.0), "close(destroy=True)")

    @contextlib.asynccontextmanager
    async def reopened(self, mark: str) -> AsyncIterator[OpenedFleet]:
        """As `opened`, with everything left as it is at the end."""
        it = OpenedFleet(self, mark)
        await it.open()
        try:
            yield it
        finally:
            await self.bounded(it.fleet.close(), "close()")


def shown(states: dict[int, InstanceState]) -> str:
    return ", ".join(f"{worker_id}: {state.value}" for worker_id, state in sorted(states.items())) or "nothing"


def ignore(*_: object) -> None:
    """Ignores the end of an instance, and every notice."""
