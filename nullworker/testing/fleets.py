"""The conformance kit for fleets: `check_fleet` checks that a fleet does what its verbs promise, and nothing else.

Public, without pytest. Give it a function that opens your fleet, and one that makes an instance end by itself:

    async def test_my_fleet():
        async def make_fleet(mark, on_exit, on_notice):
            return await MyFleet.open({"region": "test"}, mark, on_exit, on_notice)

        async def crash(fleet, mark, worker_id):
            my_cloud.kill(mark, worker_id)

        await check_fleet(make_fleet, crash=crash)

Each check opens the fleet under marks of its own, and destroys what it made, also when it fails.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError, InstanceState, ShortageError
from nullworker.testing.fleet_faults import fault_checks
from nullworker.testing.fleet_kit import FleetKit, PlaceFaults, check_message, plain_spec
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nullworker.fleets.base import InstanceSpec
    from nullworker.testing.fleet_kit import Happens, MakeFleet, Period

__all__ = ["FleetCheckResult", "PlaceFaults", "check_fleet", "plain_spec"]

RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED
#: How many instances the check with many at once makes.
MANY = 12
_NO_FAULTS = PlaceFaults()


@dataclass(frozen=True, slots=True)
class FleetCheckResult:
    """What `check_fleet` found: each check by name, and those left out with the reason."""

    passed: tuple[str, ...]
    left_out: tuple[str, ...]


async def check_fleet(
    make_fleet: MakeFleet,
    *,
    crash: Happens | None = None,
    shortage: Period | None = None,
    faults: PlaceFaults = _NO_FAULTS,
    make_spec: Callable[[int], InstanceSpec] = plain_spec,
    settings: Mapping[str, object] | None = None,
    lag_s: float = 0.0,
    quiet_s: float = 0.05,
    patience_s: float = 60.0,
) -> FleetCheckResult:
    """Checks a fleet: what its verbs do, that they can be repeated, which instances they touch, and what it announces.

    Args:
        make_fleet: ``make_fleet(mark, on_exit, on_notice)`` opens the fleet under test, always in the same place.
        crash: ``crash(fleet, mark, worker_id)`` makes a running instance end by itself. Without it, nothing that has
            to do with instances ending by themselves is checked, and the result says so.
        shortage: ``shortage(fleet, mark)`` is a context in which the place has no room for a further instance. Without
            it, what a fleet says of a shortage is not checked, and the result says so.
        faults: what the place does wrong when it is made to; what it cannot be made to is not checked, and the result
            says so.
        make_spec: what to create for a worker id; by default a null worker whose engine is not there.
        settings: those that ``make_fleet`` opens the fleet with, for ``check_backend``; by default none.
        lag_s: how long, in seconds, ``list`` may take to show what was done.
        quiet_s: how long, in seconds, to listen for notices that must not come.
        patience_s: a hang limit in seconds, for each verb and each notice.

    Returns:
        What was checked, and what was left out.

    Raises:
        AssertionError: the fleet broke a rule; the message names it.
        FleetError: a verb failed although nothing was wrong.
    """
    kit = FleetKit(make_fleet, crash, shortage, faults, make_spec, settings or {}, lag_s, quiet_s, patience_s)
    passed: list[str] = []
    left_out: list[str] = []
    for name, check in _CHECKS:
        await check(kit)
        passed.append(name)
    for given, missing, checks in (
        (crash, "to make an instance end by itself", _CRASH_CHECKS),
        (shortage, "to leave no room for another instance", _SHORTAGE_CHECKS),
    ):
        for name, check in checks:
            if given is None:
                left_out.append(f"{name} (there is no way given {missing})")
            else:
                await check(kit)
                passed.append(name)
    await fault_checks(kit, passed, left_out)
    return FleetCheckResult(tuple(passed), tuple(left_out))


async def _backends(kit: FleetKit) -> None:
    async with kit.opened() as it:
        backend = kit.make_spec(1).backend
        try:
            answer: object = it.fleet.check_backend(kit.settings, backend)
        except FleetError as error:
            raise AssertionError(f"check_backend({backend!r}) refuses what create() is to run: {error}") from error
        assert answer is None, f"check_backend() should return None and not be awaited, and returns {answer!r}"
        for name in ("no-such-backend", "../null", ""):
            try:
                it.fleet.check_backend(kit.settings, name)  # a fleet that cannot know may take any name
            except FleetError as error:
                check_message(error, f"check_backend({name!r})")
        await it.lists({}, "after check_backend()")


async def _creates(kit: FleetKit) -> None:
    async with kit.opened() as it:
        await it.lists({}, "under a new mark")
        await it.create(1)
        await it.lists({1: RUNNING}, "after create(1)")
        await it.create(2, 1)
        await it.lists({1: RUNNING, 2: RUNNING}, "after create(2) and create(1) again")
        await it.stop(1)
        await it.create(1)
        await it.lists({1: STOPPED, 2: RUNNING}, "after stop(1) and create(1) again")
        await it.announces([], "when nothing has ended by itself")


async def _stops_and_starts(kit: FleetKit) -> None:
    async with kit.opened() as it:
        await it.create(1)
        for turn in ("the first time", "the second time"):
            for _ in range(2):
                await it.stop(1)
                await it.lists({1: STOPPED}, f"after stop(1) {turn}")
            for _ in range(2):
                await it.start(1)
                await it.lists({1: RUNNING}, f"after start(1) {turn}")
        await it.announces([], "after being stopped and started")


async def _destroys(kit: FleetKit) -> None:
    async with kit.opened() as it:
        await it.destroy(5)  # never there
        await it.create(1, 2, 3)
        await it.stop(2)
        for _ in range(2):
            await it.destroy(1)
            await it.lists({2: STOPPED, 3: RUNNING}, "after destroy(1)")
        for _ in range(2):
            await it.destroy(2)
            await it.lists({3: RUNNING}, "after destroy(2), which was stopped")
        await it.create(1)
        await it.lists({1: RUNNING, 3: RUNNING}, "after create(1), which had been destroyed")
        await it.announces([], "after being told to destroy")


async def _unknown(kit: FleetKit) -> None:
    async with kit.opened() as it:
        await it.create(1)
        for verb in (it.fleet.start, it.fleet.stop):
            what = f"{verb.__name__}(99)"
            error = await it.refuses(partial(verb, 99), f"{what}, which is not there,")
            assert error.definite, f"{what} was certainly not done, and the FleetError should say so"
        await it.destroy(1)
        await it.refuses(partial(it.fleet.start, 1), "start(1), which was destroyed,")
        await it.lists({}, "after verbs for workers that are not there")


async def _marks(kit: FleetKit) -> None:
    async with kit.opened() as ours, kit.opened() as theirs:
        await ours.create(1, 2)
        await theirs.lists({}, "before anything was created under its mark")
        await theirs.create(2, 3)
        await ours.lists({1: RUNNING, 2: RUNNING}, "after another mark's create(2) and create(3)")
        await theirs.destroy(1)
        await theirs.stop(2)
        await theirs.refuses(partial(theirs.fleet.stop, 1), "stop(1), which is another mark's,")
        await ours.lists({1: RUNNING, 2: RUNNING}, "after another mark's destroy(1) and stop(2)")
        await theirs.fleet.close(destroy=True)
        await ours.lists({1: RUNNING, 2: RUNNING}, "after another mark's close(destroy=True)")
        await ours.announces([], "after another mark's instances ended")


async def _close_and_adopt(kit: FleetKit) -> None:
    async with kit.opened() as first:
        await first.create(1, 2, 3)
        await first.stop(2)
        await first.close()
        await first.close()
        await first.refuses(first.fleet.list, "list() of a closed fleet")
        await first.refuses(partial(first.fleet.create, kit.make_spec(4)), "create(4) of a closed fleet")
        await first.refuses(partial(first.fleet.destroy, 1), "destroy(1) of a closed fleet")
        async with kit.reopened(first.mark) as second:
            await second.lists({1: RUNNING, 2: STOPPED, 3: RUNNING}, "opened again")
            await second.create(1)
            await second.start(2)
            await second.stop(3)
            await second.lists({1: RUNNING, 2: RUNNING, 3: STOPPED}, "after verbs for adopted instances")
            await second.destroy(1)
            await second.lists({2: RUNNING, 3: STOPPED}, "after destroy(1) of an adopted instance")
            await second.announces([], "when adopted instances were told to end")
        assert not first.exits, "a closed fleet should announce nothing"


async def _close_and_destroy(kit: FleetKit) -> None:
    async with kit.opened() as first:
        await first.create(1, 2)
        await first.stop(2)
        await kit.bounded(first.fleet.close(destroy=True), "close(destroy=True)")
        assert not first.exits, "what close(destroy=True) ends has not ended by itself"
        async with kit.reopened(first.mark) as second:
            await second.lists({}, "after close(destroy=True)")


async def _many_at_once(kit: FleetKit) -> None:
    async with kit.opened() as it:
        ids = range(1, MANY + 1)
        await asyncio.gather(*(it.create(worker_id) for worker_id in ids))
        await it.lists(dict.fromkeys(ids, RUNNING), f"after {MANY} creates at once")
        await asyncio.gather(*(it.stop(worker_id) if worker_id % 2 else it.destroy(worker_id) for worker_id in ids))
        await it.lists({each: STOPPED for each in ids if each % 2}, "after stops and destroys at once")
        await asyncio.gather(*(it.destroy(worker_id) for worker_id in ids))
        await it.lists({}, f"after {MANY} destroys at once")
        await it.announces([], "when all were told to end")


async def _in_order(kit: FleetKit) -> None:
    async with kit.opened() as it:
        await asyncio.gather(it.create(1), it.stop(1), it.start(1), it.destroy(1))
        await it.lists({}, "after create, stop, start and destroy of one worker asked at once")
        await asyncio.gather(it.create(1), it.destroy(1), it.create(1), it.stop(1))
        await it.lists({1: STOPPED}, "after create, destroy, create and stop of one worker asked at once")
        await it.announces([], "after verbs asked at once")


async def _cancelled(kit: FleetKit) -> None:
    async with kit.opened() as it:
        for verb in (it.create, it.stop, it.start):
            task = tasks.start(verb(1))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await it.create(1)  # behind whatever the cancelled calls still do
        await it.start(1)
        await it.lists({1: RUNNING}, "after calls that were cancelled, and start(1)")
        await it.destroy(1)
        await it.lists({}, "after calls that were cancelled, and destroy(1)")


async def _announces_crashes(kit: FleetKit) -> None:
    async with kit.opened() as it:
        await it.create(1, 2, 3)
        await it.crash(1)
        await it.announces([1], "after worker 1 ended by itself")
        listed = await it.lists({1: EXITED, 2: RUNNING, 3: RUNNING}, "after worker 1 ended by itself")
        assert listed[0].detail.strip(), "list() should say how an exited instance ended"
        await it.create(1)
        await it.lists({1: EXITED, 2: RUNNING, 3: RUNNING}, "after create(1), which had ended by itself")
        await it.start(1)
        await it.lists({1: RUNNING, 2: RUNNING, 3: RUNNING}, "after start(1), which had ended by itself")
        await it.crash(1)
        await it.announces([1, 1], "after it ended by itself again")
        await it.stop(1)
        await it.lists({1: STOPPED, 2: RUNNING, 3: RUNNING}, "after stop(1), which had ended by itself")
        await it.crash(2)
        await it.announces([1, 1, 2], "after worker 2 ended by itself")
        await it.destroy(2)
        await it.lists({1: STOPPED, 3: RUNNING}, "after destroy(2), which had ended by itself")
        await it.announces([1, 1, 2], "at the end")


async def _crashes_are_its_own(kit: FleetKit) -> None:
    async with kit.opened() as ours, kit.opened() as theirs:
        await ours.create(1)
        await theirs.create(1)
        await theirs.crash(1)
        await theirs.announces([1], "after its worker 1 ended by itself")
        await ours.announces([], "after another mark's worker 1 ended by itself")
        await ours.lists({1: RUNNING}, "after another mark's worker 1 ended by itself")


async def _adopted_crashes(kit: FleetKit) -> None:
    async with kit.opened() as first:
        await first.create(1, 2)
        await first.close()
        await first.crash(1)
        await asyncio.sleep(kit.quiet_s)
        assert not first.exits, "a closed fleet should announce nothing"
        async with kit.reopened(first.mark) as second:
            listed = await second.lists({1: EXITED, 2: RUNNING}, "opened again after worker 1 ended by itself")
            assert listed[0].detail.strip(), "list() should say how an exited instance ended, as far as it knows"
            await second.announces([], "for what ended while no fleet was open")
            await second.crash(2)
            await second.announces([2], "after an adopted instance ended by itself")
            await second.lists({1: EXITED, 2: EXITED}, "after an adopted instance ended by itself")


async def _logs(kit: FleetKit) -> None:
    async with kit.opened() as it:
        await it.create(1)
        for worker_id, bytes_max in ((1, 1000), (1, 1), (1, 0), (99, 1000)):
            what = f"read_log({worker_id}, {bytes_max})"
            read = await kit.bounded(it.fleet.read_log(worker_id, bytes_max), what)
            assert isinstance(read, bytes), f"{what} should return bytes, and returns {read!r}"
            assert len(read) <= bytes_max, f"{what} returns {len(read)} bytes"
        assert read == b"", "read_log(99), which was never there, should be empty"
        await it.lists({1: RUNNING}, "after read_log()")


async def _shortages(kit: FleetKit) -> None:
    assert kit.shortage is not None
    async with kit.opened() as it:
        await it.create(1)
        async with kit.shortage(it.fleet, it.mark):
            error = await it.refuses(
                partial(it.fleet.create, kit.make_spec(2)), "create(2), for which there is no room,"
            )
            assert isinstance(error, ShortageError), f"a shortage should be a ShortageError, and is {error!r}"
            assert error.definite, "of a shortage it is certain that nothing was created"
            await it.create(1)
            await it.lists({1: RUNNING}, "after create(2), for which there was no room, and create(1) again")
            await it.destroy(2)
        await it.create(2)
        await it.lists({1: RUNNING, 2: RUNNING}, "after create(2), for which there is room again")
        await it.announces([], "when nothing has ended by itself")


_CHECKS: tuple[tuple[str, Callable[[FleetKit], Awaitable[None]]], ...] = (
    ("check_backend() takes the backend that is created", _backends),
    ("what is created runs, and is created once", _creates),
    ("what is stopped can be started", _stops_and_starts),
    ("what is destroyed is gone", _destroys),
    ("verbs for workers that are not there", _unknown),
    ("another mark's instances are neither seen nor touched", _marks),
    ("close() leaves instances as they are, and open() adopts them", _close_and_adopt),
    ("close(destroy=True) leaves nothing", _close_and_destroy),
    ("many verbs at once", _many_at_once),
    ("verbs for one worker happen in the order of the calls", _in_order),
    ("a cancelled call leaves nothing half-done", _cancelled),
    ("the end of a log", _logs),
)
_CRASH_CHECKS: tuple[tuple[str, Callable[[FleetKit], Awaitable[None]]], ...] = (
    ("what ends by itself is announced once, and listed as exited", _announces_crashes),
    ("another mark's endings are not announced", _crashes_are_its_own),
    ("endings of adopted instances are announced, those before are not", _adopted_crashes),
)
_SHORTAGE_CHECKS: tuple[tuple[str, Callable[[FleetKit], Awaitable[None]]], ...] = (
    ("a shortage is said as such, and leaves nothing behind", _shortages),
)
