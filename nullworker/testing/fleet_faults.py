"""The conformance kit's checks of a fleet whose place errs: what real places taught, each with the rule it gave.

A rule here is one of money or of jobs: an instance that the engine does not know of costs, and one that is taken for
gone is ended.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError, InstanceState, ShortageError
from nullworker.testing.fleet_kit import check_message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nullworker.testing.fleet_kit import FleetKit, OpenedFleet

RUNNING, EXITED = InstanceState.RUNNING, InstanceState.EXITED


async def fault_checks(kit: FleetKit, passed: list[str], left_out: list[str]) -> None:
    """Runs those checks for which the test gave a fault, and notes the names of all.

    Args:
        kit: with the faults.
        passed: gets the names of those that ran.
        left_out: gets those of the others, with the reason.

    Raises:
        AssertionError: the fleet broke a rule.
    """
    for fault, name, check in _FAULT_CHECKS:
        if getattr(kit.faults, fault) is None:
            left_out.append(f"{name} (there is no way given for PlaceFaults.{fault})")
        else:
            await check(kit)
            passed.append(name)


async def _failure(call: Awaitable[None], what: str) -> FleetError | None:
    """How a verb failed; None: it did not."""
    try:
        await call
    except FleetError as error:
        check_message(error, what)
        return error
    return None


async def _lost_answer(kit: FleetKit) -> None:
    assert kit.faults.lost_answer is not None
    async with kit.opened() as it:
        async with kit.faults.lost_answer(it.fleet, it.mark):
            error = await _failure(it.create(1), "create(1), whose answer was lost,")
            assert error is None or not error.definite, "a creation whose answer was lost is not definite"
        await it.done_at_last(partial(it.create, 1), "create(1) after a lost answer")
        await it.lists({1: RUNNING}, "after a creation whose answer was lost, and create(1) again")
        _check_count(it, 1, "after a creation whose answer was lost, and create(1) again")
        await it.done_at_last(partial(it.destroy, 1), "destroy(1) after a lost answer")
        await it.leaves_nothing("after destroy(1) of what was created without an answer")
        await it.announces([], "when nothing has ended by itself")


async def _lost_answer_and_destroyed(kit: FleetKit) -> None:
    assert kit.faults.lost_answer is not None
    async with kit.opened() as it:
        async with kit.faults.lost_answer(it.fleet, it.mark):
            await _failure(it.create(1), "create(1), whose answer was lost,")
        await it.done_at_last(partial(it.destroy, 1), "destroy(1) after a lost answer")
        await it.leaves_nothing("after destroy(1) of what was created without an answer")
    async with kit.opened() as it:
        async with kit.faults.lost_answer(it.fleet, it.mark):
            await _failure(it.create(1), "create(1), whose answer was lost,")
        await it.close()
        async with kit.reopened(it.mark) as again:
            await again.lists({1: RUNNING}, "opened again after a creation whose answer was lost")
            await again.done_at_last(partial(again.destroy, 1), "destroy(1) after a lost answer")
            await again.leaves_nothing("after destroy(1) of what was created for another opening, without an answer")


async def _silence(kit: FleetKit) -> None:
    assert kit.faults.silence is not None
    async with kit.opened() as it:
        await it.create(1)
        await it.lists({1: RUNNING}, "before the place fell silent")
        async with kit.faults.silence(it.fleet, it.mark):
            for _ in range(3):
                await _lists_or_fails(it, "while the place is silent")
            for verb, what in (
                (partial(it.fleet.destroy, 1), "destroy(1), of which the place says nothing,"),
                (partial(it.fleet.create, kit.make_spec(2)), "create(2), of which the place says nothing,"),
            ):
                await it.refuses(verb, what)
            await it.announces([], "while the place is silent")
        for worker_id in (1, 2):
            await it.done_at_last(partial(it.destroy, worker_id), f"destroy({worker_id}) after a silence")
        await it.leaves_nothing("after a silence, and destroy() of all")
        await it.announces([], "when nothing has ended by itself")


async def _lists_or_fails(it: OpenedFleet, when: str) -> None:
    """A place that says nothing has not said that an instance is gone."""
    try:
        listed = await it.kit.bounded(it.fleet.list(), "list()")
    except FleetError as error:
        check_message(error, "list()")
    else:
        states = {instance.worker_id: instance.state for instance in listed}
        assert states == {1: RUNNING}, f"{when}, list() should fail or say what was last known, and says {states}"


async def _kept(kit: FleetKit) -> None:
    assert kit.faults.kept is not None
    async with kit.opened() as it:
        await it.create(1)
        await it.lists({1: RUNNING}, "before destroy(1)")
        async with kit.faults.kept(it.fleet, it.mark):
            error = await _failure(it.destroy(1), "destroy(1), which the place did not carry out,")
            if error is not None:
                listed = await kit.bounded(it.fleet.list(), "list()")
                assert [each.worker_id for each in listed] == [1], "list() should show what has not ended"
        if error is not None:
            await it.done_at_last(partial(it.destroy, 1), "destroy(1) again")
        await it.leaves_nothing("after destroy(1), which the place did not carry out at first")
        await it.announces([], "after being told to destroy")


async def _unstarted(kit: FleetKit) -> None:
    assert kit.faults.unstarted is not None
    async with kit.opened() as it:
        async with kit.faults.unstarted(it.fleet, it.mark):
            error = await _failure(it.create(1), "create(1), which does not begin,")
            if isinstance(error, ShortageError):
                await it.lists({}, "after create(1) said that there is no place")
            elif error is None:
                await it.lists({1: RUNNING}, "after create(1), which has not begun")
            await it.done_at_last(partial(it.destroy, 1), "destroy(1) of what has not begun")
            await it.lists({}, "after destroy(1) of what has not begun")
        await it.leaves_nothing("after destroy(1) of what had not begun")
        await it.announces([], "when nothing has ended by itself")


async def _ends_soon(kit: FleetKit) -> None:
    assert kit.faults.ends_soon is not None
    async with kit.opened() as it:
        await it.create(1, 2)
        await it.lists({1: RUNNING, 2: RUNNING}, "before the notice")
        await kit.faults.ends_soon(it.fleet, it.mark, 1)
        await it.comes_true(lambda: bool(it.ends), "on_notice(EndsSoon) for worker 1")
        for notice in it.ends:
            assert notice.worker_id == 1, f"the notice should be for worker 1, and is for {notice.worker_id}"
            assert notice.in_s >= 0, f"the notice should say in how many seconds, and says {notice.in_s}"
            assert notice.reason.strip(), "the notice should say why"
            assert "\n" not in notice.reason, f"the reason has several lines: {notice.reason!r}"
        await it.announces([], "after a notice, while the instance runs")
        await it.lists({1: RUNNING, 2: RUNNING}, "after a notice, while the instance runs")


async def _moved(kit: FleetKit) -> None:
    assert kit.faults.moved is not None
    async with kit.opened() as it:
        await it.create(1)
        (before,) = await it.lists({1: RUNNING}, "before its address changed")
        await kit.faults.moved(it.fleet, it.mark, 1)
        seen = before

        async def look() -> None:
            nonlocal seen
            (seen,) = await it.lists({1: RUNNING}, "after its address changed")
            if seen.address == before.address:
                raise FleetError(f"Worker 1 is still listed at {before.address!r}.")

        await it.done_at_last(look, "an address that changed")
        assert seen.address, "an instance whose address changed should have the new one"
        await it.announces([], "after an address changed")


def _check_count(it: OpenedFleet, expected: int, when: str) -> None:
    count = it.kit.faults.count
    if count is not None:
        there = count(it.mark)
        assert there == expected, f"{when}, the place should have {expected}, and has {there}"


_FAULT_CHECKS: tuple[tuple[str, str, Callable[[FleetKit], Awaitable[None]]], ...] = (
    ("lost_answer", "a creation whose answer was lost is neither refused nor done twice", _lost_answer),
    ("lost_answer", "what was created without an answer is found again", _lost_answer_and_destroyed),
    ("silence", "a place that is silent has ended nothing", _silence),
    ("kept", "what the place did not end is not gone", _kept),
    ("unstarted", "what does not begin can be destroyed", _unstarted),
    ("ends_soon", "a notice before the end is passed on", _ends_soon),
    ("moved", "an address that changes is told", _moved),
)
