"""The conformance kit finds what is wrong with a fleet: each fleet here breaks one rule, and must be found out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

import pytest

from nullworker.fleets.base import (
    EndsSoon,
    FleetError,
    Instance,
    InstanceSpec,
    InstanceState,
    ShortageError,
    no_notice,
)
from nullworker.testing.fleets import check_fleet
from nullworker.testing.memory_fleet import MemoryFleet, MemoryInstance, MemoryWorld
from tests.kit.fleet_faults import memory_faults
from tests.kit.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from nullworker.fleets.base import Notice
    from nullworker.testing.fleet_kit import OnExit, OnNotice


class CreatesAnew(MemoryFleet):
    async def create(self, spec: InstanceSpec) -> None:
        self._world.instances.pop((self._mark, spec.worker_id), None)
        await super().create(spec)


class StopsNothing(MemoryFleet):
    async def stop(self, worker_id: int) -> None:
        self._known(worker_id)


class StopDestroys(MemoryFleet):
    async def stop(self, worker_id: int) -> None:
        self._known(worker_id)
        await super().destroy(worker_id)


class StartsTheUnknown(MemoryFleet):
    async def start(self, worker_id: int) -> None:
        if (self._mark, worker_id) in self._world.instances:
            await super().start(worker_id)


class Unsure(MemoryFleet):
    def _known(self, worker_id: int) -> MemoryInstance:
        try:
            return super()._known(worker_id)
        except FleetError as error:
            raise FleetError(str(error), definite=False) from error


class Wordy(MemoryFleet):
    def _known(self, worker_id: int) -> MemoryInstance:
        try:
            return super()._known(worker_id)
        except FleetError as error:
            raise FleetError("Traceback:\n  boom") from error


class DestroysOnce(MemoryFleet):
    async def destroy(self, worker_id: int) -> None:
        self._known(worker_id)
        await super().destroy(worker_id)


class SeesOthers(MemoryFleet):
    async def list(self) -> list[Instance]:
        self._check_open()
        return [Instance(worker_id, each.state, each.detail) for (_, worker_id), each in self._world.instances.items()]


class TouchesOthers(MemoryFleet):
    async def destroy(self, worker_id: int) -> None:
        await super().destroy(worker_id)
        for key in list(self._world.instances):
            if key[1] == worker_id:
                del self._world.instances[key]


class ClosesAll(MemoryFleet):
    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:
        await super().close(destroy=True)


class ClosesNothing(MemoryFleet):
    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:
        await super().close()


class AnswersClosed(MemoryFleet):
    def _check_open(self) -> None:
        pass


class AnnouncesStops(MemoryFleet):
    async def stop(self, worker_id: int) -> None:
        await super().stop(worker_id)
        self.on_exit(worker_id, "stopped")


class AnnouncesTwice(MemoryFleet):
    def __init__(self, world: MemoryWorld, mark: str, on_exit: Callable[[int, str], None]) -> None:
        def twice(worker_id: int, detail: str) -> None:
            on_exit(worker_id, detail)
            on_exit(worker_id, detail)

        super().__init__(world, mark, twice)


class AnnouncesNothing(MemoryFleet):
    def __init__(self, world: MemoryWorld, mark: str, on_exit: Callable[[int, str], None]) -> None:
        super().__init__(world, mark, lambda *_: None)


class AnnouncesThePast(MemoryFleet):
    def __init__(self, world: MemoryWorld, mark: str, on_exit: Callable[[int, str], None]) -> None:
        super().__init__(world, mark, on_exit)
        for (whose, worker_id), instance in world.instances.items():
            if whose == mark and instance.state is InstanceState.EXITED:
                on_exit(worker_id, instance.detail)


class NoReason(MemoryFleet):
    async def list(self) -> list[Instance]:
        return [Instance(each.worker_id, each.state) for each in await super().list()]


class Hasty(MemoryFleet):
    """Does verbs at once, whatever waits before them."""

    async def destroy(self, worker_id: int) -> None:
        self._check_open()
        self._remove(worker_id)


class ListsTwice(MemoryFleet):
    async def list(self) -> list[Instance]:
        return [*(await super().list()), *(await super().list())]


class RefusesItsBackend(MemoryFleet):
    @classmethod
    def check_backend(cls, _settings: Mapping[str, object], _backend: str) -> None:
        raise FleetError("No.")


class AnswersABackend(MemoryFleet):
    @classmethod
    def check_backend(cls, _settings: Mapping[str, object], _backend: str) -> bool:  # type: ignore[override]
        return True


class WordyOfABackend(MemoryFleet):
    @classmethod
    def check_backend(cls, _settings: Mapping[str, object], backend: str) -> None:
        if backend != "null":
            raise FleetError("Traceback:\n  boom")


class ReadsTooMuch(MemoryFleet):
    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        return b"text" if worker_id == 1 else b""


class MakesUpALog(MemoryFleet):
    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        return b"?"[:bytes_max]


class FailsForShortage(MemoryFleet):
    async def create(self, spec: InstanceSpec) -> None:
        try:
            await super().create(spec)
        except ShortageError as error:
            raise FleetError(str(error)) from error


class CreatesInAShortage(MemoryFleet):
    async def create(self, spec: InstanceSpec) -> None:
        with contextlib.suppress(ShortageError):
            await super().create(spec)


class TakesALostAnswerForARefusal(MemoryFleet):
    async def create(self, spec: InstanceSpec) -> None:
        try:
            await super().create(spec)
        except ShortageError:
            raise
        except FleetError as error:
            raise FleetError(str(error)) from error


class CreatesAgainUnderAnotherMark(MemoryFleet):
    """What an order that cannot be found again comes to: the first instance is known to none."""

    async def create(self, spec: InstanceSpec) -> None:
        try:
            await super().create(spec)
        except ShortageError:
            raise
        except FleetError:
            lost = self._world.instances.pop((self._mark, spec.worker_id), None)
            if lost is not None:
                self._world.instances[f"{self._mark} lost", spec.worker_id] = lost
            raise


class ForgetsWhatHadNoAnswer(MemoryFleet):
    """Destroys only what it was told that it exists."""

    unanswered: ClassVar[set[tuple[str, int]]] = set()

    async def create(self, spec: InstanceSpec) -> None:
        try:
            await super().create(spec)
        except ShortageError:
            raise
        except FleetError:
            self.unanswered.add((self._mark, spec.worker_id))
            raise

    async def destroy(self, worker_id: int) -> None:
        if (self._mark, worker_id) not in self.unanswered:
            await super().destroy(worker_id)


class TakesSilenceForNothing(MemoryFleet):
    async def list(self) -> list[Instance]:
        try:
            return await super().list()
        except FleetError:
            self._check_open()
            return []


class DestroysBlindly(MemoryFleet):
    async def destroy(self, worker_id: int) -> None:
        self._check_open()
        with contextlib.suppress(FleetError):
            await super().destroy(worker_id)


class WaitsForABeginning(MemoryFleet):
    async def destroy(self, worker_id: int) -> None:
        instance = self._world.instances.get((self._mark, worker_id))
        if instance is not None and not instance.runs:
            raise FleetError("It has not begun.")
        await super().destroy(worker_id)


class PassesNoNotice(MemoryFleet):
    @classmethod
    async def open(cls, settings: Mapping[str, object], mark: str, on_exit: OnExit, *_: object) -> MemoryFleet:
        return await super().open(settings, mark, on_exit)


class EndsWhatEndsSoon(MemoryFleet):
    @classmethod
    async def open(
        cls, settings: Mapping[str, object], mark: str, on_exit: OnExit, on_notice: OnNotice = no_notice
    ) -> MemoryFleet:
        def both(notice: Notice) -> None:
            on_notice(notice)
            if isinstance(notice, EndsSoon):
                on_exit(notice.worker_id, notice.reason)

        return await super().open(settings, mark, on_exit, both)


class RemembersAddresses(MemoryFleet):
    async def list(self) -> list[Instance]:
        return [Instance(each.worker_id, each.state, each.detail, "first:1") for each in await super().list()]


BROKEN = [
    (RefusesItsBackend, "refuses what create"),
    (AnswersABackend, "should return None"),
    (WordyOfABackend, "several lines"),
    (CreatesAnew, "create\\(1\\) again"),
    (StopsNothing, "after stop"),
    (StopDestroys, "after stop"),
    (StartsTheUnknown, "start\\(99\\), which is not there, should raise"),
    (Unsure, "certainly not done"),
    (Wordy, "several lines"),
    (SeesOthers, "under its mark"),
    (TouchesOthers, "another mark's destroy"),
    (ClosesAll, "opened again"),
    (ClosesNothing, "after close\\(destroy=True\\)"),
    (AnswersClosed, "of a closed fleet should raise"),
    (AnnouncesStops, "on_exit"),
    (AnnouncesTwice, "on_exit"),
    (AnnouncesNothing, "on_exit"),
    (AnnouncesThePast, "while no fleet was open"),
    (NoReason, "should say how an exited instance ended"),
    (Hasty, "asked at once"),
    (ListsTwice, "twice"),
    (ReadsTooMuch, "returns 4 bytes"),
    (MakesUpALog, "never there, should be empty"),
    (FailsForShortage, "should be a ShortageError"),
    (CreatesInAShortage, "should raise"),
    (TakesALostAnswerForARefusal, "is not definite"),
    (CreatesAgainUnderAnotherMark, "the place should have 1, and has 2"),
    (ForgetsWhatHadNoAnswer, "after destroy\\(1\\) of what was created without an answer"),
    (TakesSilenceForNothing, "while the place is silent"),
    (DestroysBlindly, "of which the place says nothing, should raise"),
    (WaitsForABeginning, "destroy\\(1\\) of what has not begun still fails"),
    (PassesNoNotice, "on_notice\\(EndsSoon\\) for worker 1"),
    (EndsWhatEndsSoon, "after a notice, while the instance runs, on_exit"),
    (RemembersAddresses, "an address that changed still fails"),
]


@pytest.mark.parametrize(("broken", "why"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_fleet_is_found_out(broken: type[MemoryFleet], why: str) -> None:
    """Each is caught by the check that is there for it."""
    with pytest.raises(AssertionError, match=why):
        run(broken)


def test_a_fleet_that_minds_what_is_not_there_is_found_out() -> None:
    """A destroy that is repeated is no error."""
    with pytest.raises(FleetError):
        run(DestroysOnce)


async def test_without_a_way_to_crash_the_result_says_what_was_left_out() -> None:
    world = MemoryWorld()
    result = await check_fleet(lambda mark, *calls: MemoryFleet.open({"world": world}, mark, *calls), quiet_s=0)
    assert len(result.left_out) == 11
    assert len(result.passed) == 12


def test_a_verb_that_never_ends_is_found_out() -> None:
    world = MemoryWorld()
    world.hold("list")
    with pytest.raises(AssertionError, match="took more than"):
        run_in_virtual_time(check_fleet(lambda mark, *calls: MemoryFleet.open({"world": world}, mark, *calls)))


def run(broken: type[MemoryFleet]) -> None:
    world = MemoryWorld()

    async def crash(_fleet: object, mark: str, worker_id: int) -> None:
        world.crash(mark, worker_id)

    @contextlib.asynccontextmanager
    async def shortage(_fleet: object, _mark: str) -> AsyncIterator[None]:
        world.be_short("There is no room.")
        yield
        world.be_short("")

    run_in_virtual_time(
        check_fleet(
            lambda mark, *calls: broken.open({"world": world}, mark, *calls),
            crash=crash,
            shortage=shortage,
            faults=memory_faults(world),
        )
    )
