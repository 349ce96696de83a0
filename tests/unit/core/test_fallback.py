"""A dearer workergroup grows once the cheaper have long been unable, and goes again when they are able."""

from __future__ import annotations

import pytest

from nullworker.core import commands, events, explain, fallback, limits
from nullworker.core.causes import Blocker, Cause
from nullworker.core.parameters import ParameterError, WorkergroupSpec
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, of

CHEAP, DEAR = 1, 2
AFTER_S = 60.0


class TwoGroups(Scene):
    """A scene whose workergroup 1 costs 1 an hour, and whose workergroup 2 costs 3 and stands in for it."""

    def __init__(self, *, fallback_after_s: float = AFTER_S, **changes: object) -> None:
        self.cheap_has_place = False
        super().__init__(**changes)  # type: ignore[arg-type]  # as the scene
        self.now += 1.0
        self.workergroup(CHEAP, price_per_hour=1.0)
        self.workergroup(DEAR, price_per_hour=3.0, fallback_after_s=fallback_after_s)

    def send(self, event: events.Event) -> list[commands.Command]:
        """As the scene; what is ordered of the cheap one while that has no place fails."""
        decided = super().send(event)
        for command in decided:  # which grows meanwhile
            if isinstance(command, commands.Create) and command.workergroup_id == CHEAP and not self.cheap_has_place:
                decided += super().send(
                    events.InstanceFailed(command.worker_id, "create", "all GPUs are taken", short=True)
                )
        return decided

    @property
    def ordered(self) -> list[int]:
        """Of which workergroups workers were ordered, so far."""
        return [create.workergroup_id for create in of(self.commands, commands.Create)]

    def short(self) -> int:
        """A client asks, and the dear one serves it after its time; returns its worker's id."""
        self.ask(1)
        self.pass_time(AFTER_S)
        (create,) = [each for each in of(self.commands, commands.Create) if each.workergroup_id == DEAR]
        self.up(create.worker_id)
        self.takes(create.worker_id, 1)
        return create.worker_id

    def place_free(self) -> None:
        """The cheap one has places from now on, and the engine was told."""
        self.cheap_has_place = True
        self.workergroup(CHEAP, price_per_hour=1.0)

    def serve_from_cheap(self, request_idx: int) -> int:
        """Another client asks, and gets a worker of the cheap one, which is ready at once."""
        self.ask(request_idx)
        worker_id = of(self.commands, commands.Create)[-1].worker_id
        assert self.worker(worker_id).workergroup.spec.workergroup_id == CHEAP
        self.up(worker_id)
        self.takes(worker_id, request_idx)
        return worker_id


def test_the_dearer_one_is_used_when_the_cheaper_has_been_short_for_its_time_and_not_before() -> None:
    scene = TwoGroups()
    scene.ask(1)
    scene.pass_time(AFTER_S - 0.1)
    assert set(scene.ordered) == {CHEAP}
    scene.pass_time(0.1)
    assert scene.ordered[-1] == DEAR
    assert scene.ordered.count(DEAR) == 1


def test_without_a_time_it_is_used_at_once() -> None:
    scene = TwoGroups(fallback_after_s=0.0)
    scene.ask(1)
    assert scene.ordered == [CHEAP, DEAR]


def test_one_that_is_full_is_not_unable() -> None:
    """What is over the cheaper one's own `max_workers` is the dearer one's at once."""
    scene = TwoGroups()
    scene.cheap_has_place = True
    scene.workergroup(CHEAP, price_per_hour=1.0, max_workers=1)
    scene.ask(1)
    scene.ask(2)
    assert scene.ordered == [CHEAP, DEAR]


def test_while_the_cheaper_one_is_tried_with_one_worker_at_a_time_the_dearer_waits() -> None:
    scene = TwoGroups()
    scene.ask(1)
    scene.pass_time(7)
    scene.cheap_has_place = True
    scene.ask(2)
    scene.ask(3)
    scene.pass_time(10)
    scene.up(of(scene.commands, commands.Create)[-1].worker_id)  # it is able again, and has failed often
    assert scene.engine.state.workergroups[CHEAP].failures > limits.FAILURES_BEFORE_ONE_AT_A_TIME
    assert scene.engine.state.workergroups[CHEAP].booting == 1
    assert DEAR not in scene.ordered
    scene.pass_time(AFTER_S)
    scene.up(of(scene.commands, commands.Create)[-1].worker_id)
    assert DEAR not in scene.ordered
    assert scene.ordered[-1] == CHEAP


def test_both_together_are_never_more_than_max_workers() -> None:
    scene = TwoGroups(max_workers=2)
    scene.cheap_has_place = True
    scene.serve_from_cheap(1)
    scene.cheap_has_place = False
    scene.ask(2)
    scene.ask(3)
    scene.live(2 * AFTER_S)
    assert scene.ordered.count(DEAR) == 1
    assert len(scene.engine.state.workers) == 2


def test_a_client_that_waits_for_it_is_told_when_it_comes() -> None:
    scene = TwoGroups()
    scene.ask(1)
    scene.pass_time(20)
    scene.send(events.TimePassed())
    code, why = explain.blocker(scene.engine, 1)
    assert code is Blocker.NO_PLACE
    assert why.startswith("workers of workergroup 1 found no place 5 times, next try in ")
    assert "all GPUs are taken" in why
    assert why.endswith("; workergroup 2 is used in its place in 40 s (fallback_after_s 60)")
    for after_s, left in ((15, "25 s"), (50, "0 s")):  # without any event meanwhile
        text = explain.about_endpoint(scene.engine, 1, scene.engine.state.now + after_s)
        assert f"; workergroup 2 is used in its place in {left} " in text


def test_the_time_goes_on_while_it_is_tried_again_for_a_place_that_was_taken_meanwhile() -> None:
    scene = TwoGroups()
    scene.ask(1)
    for _ in range(int(AFTER_S / 10) - 1):
        scene.pass_time(10)
        scene.workergroup(CHEAP, price_per_hour=1.0)  # as the engine does when a place may be free
        assert DEAR not in scene.ordered
    scene.pass_time(10)
    assert scene.ordered[-1] == DEAR


def test_it_begins_anew_when_the_cheaper_one_is_defined_in_another_way() -> None:
    scene = TwoGroups()
    scene.ask(1)
    scene.pass_time(AFTER_S - 1)
    scene.workergroup(CHEAP, price_per_hour=1.5)
    scene.pass_time(AFTER_S - 1)
    assert DEAR not in scene.ordered
    scene.pass_time(1)
    assert scene.ordered[-1] == DEAR


def test_a_shorter_time_counts_from_the_same_moment() -> None:
    scene = TwoGroups()
    scene.ask(1)
    scene.pass_time(20)
    scene.workergroup(DEAR, price_per_hour=3.0, fallback_after_s=30.0)
    scene.pass_time(9)
    assert DEAR not in scene.ordered
    scene.pass_time(1)
    assert scene.ordered[-1] == DEAR


def test_a_shortage_of_which_nothing_was_heard_for_long_is_over() -> None:
    scene = TwoGroups()
    scene.ask(1)
    scene.hold_ends(1)
    scene.set_absent(1)
    scene.pass_time(limits.UNABLE_FORGOTTEN_S + limits.BACKOFF_MAX_S)
    scene.ask(2)
    scene.pass_time(AFTER_S - 1)
    assert DEAR not in scene.ordered


def test_a_worker_that_was_ordered_before_the_failure_says_nothing_of_it() -> None:
    scene = TwoGroups()
    scene.cheap_has_place = True
    scene.ask(1)
    scene.cheap_has_place = False
    scene.pass_time(1)
    scene.ask(2)
    scene.pass_time(1)
    scene.up(1)
    group = scene.engine.state.workergroups[CHEAP]
    assert group.is_unable(scene.now)
    scene.cheap_has_place = True
    scene.pass_time(10)
    scene.up(of(scene.commands, commands.Create)[-1].worker_id)
    assert not group.is_unable(scene.now)


def test_of_two_that_cost_the_same_the_one_without_a_time_comes_first() -> None:
    scene = Scene()
    scene.workergroup(1, fallback_after_s=60.0)
    scene.workergroup(2)
    scene.ask(1)
    assert [create.workergroup_id for create in of(scene.commands, commands.Create)] == [2]


def test_a_free_stand_in_goes_at_once_when_the_cheaper_one_is_able_again() -> None:
    scene = TwoGroups()
    stand_in = scene.short()
    scene.place_free()
    scene.serve_from_cheap(2)
    decided = scene.finishes(stand_in, 1) + scene.report(stand_in)
    decided += scene.pass_time(limits.TICK_S)
    (destroy,) = of(decided, commands.Destroy)
    assert (destroy.worker_id, destroy.cause) == (stand_in, Cause.CHEAPER_ABLE)
    assert destroy.reason == "free, and workergroup 1, which is cheaper, can be used again"


def test_a_held_stand_in_stays() -> None:
    scene = TwoGroups()
    stand_in = scene.short()
    scene.place_free()
    scene.serve_from_cheap(2)
    scene.live(600)
    assert scene.state(stand_in) is WorkerState.HELD


def test_a_free_stand_in_serves_who_waits_before_it_goes() -> None:
    scene = TwoGroups(max_workers=2)
    stand_in = scene.short()
    scene.place_free()
    scene.serve_from_cheap(2)
    scene.ask(3)
    scene.pass_time(1)
    decided = scene.finishes(stand_in, 1)
    assert [grant.worker_id for grant in of(decided, commands.Grant)] == [stand_in]


def test_while_the_cheaper_one_is_unable_a_free_stand_in_stays_for_its_time() -> None:
    scene = TwoGroups()
    stand_in = scene.short()
    scene.finishes(stand_in, 1)
    scene.report(stand_in)
    assert of(scene.pass_time(scene.parameters.idle_s - 0.1), commands.Destroy) == []
    (destroy,) = of(scene.pass_time(0.2), commands.Destroy)
    assert destroy.cause is Cause.IDLE


def test_the_cheaper_one_serves_before_the_stand_in() -> None:
    scene = TwoGroups()
    stand_in = scene.short()
    scene.place_free()
    cheap = scene.serve_from_cheap(2)
    scene.finishes(cheap, 2)
    scene.finishes(stand_in, 1)
    decided = scene.ask(3)
    assert [grant.worker_id for grant in of(decided, commands.Grant)] == [cheap]


def test_a_free_stand_in_that_min_load_needs_stays_until_another_is_ready() -> None:
    scene = TwoGroups(min_load=100.0)
    scene.pass_time(AFTER_S)
    (stand_in,) = [each.worker_id for each in of(scene.commands, commands.Create) if each.workergroup_id == DEAR]
    scene.up(stand_in)
    scene.cheap_has_place = True
    scene.live(limits.UNABLE_FORGOTTEN_S + 20)
    assert scene.ordered[-1] == DEAR
    text = explain.about_worker(scene.engine, stand_in, scene.now)
    assert "stays because perf 100 is wanted" in text
    scene.put(min_load=200.0)
    other = of(scene.commands, commands.Create)[-1]
    assert other.workergroup_id == CHEAP
    scene.put(min_load=100.0)
    scene.live(20)
    assert scene.state(stand_in) is WorkerState.READY
    scene.up(other.worker_id)
    text = explain.about_worker(scene.engine, stand_in, scene.now)
    assert text.endswith("unless it is needed (workergroup 1, which is cheaper, can be used again).")
    (destroy,) = of(scene.pass_time(2), commands.Destroy)
    assert destroy.worker_id == stand_in


def test_which_one_grows_is_for_the_price_of_perf_to_say() -> None:
    scene = Scene()
    scene.workergroup(1, price_per_hour=4.0, perf=400.0)
    scene.workergroup(2, price_per_hour=2.0)
    state = scene.engine.state
    group = fallback.next_to_grow(state, state.endpoints[1])
    assert group is not None
    assert group.spec.workergroup_id == 1


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf"), 1e7])
def test_a_time_out_of_its_bounds_is_refused(wrong: float) -> None:
    with pytest.raises(ParameterError, match=r"fallback_after_s is .*, and must be from 0 to 1e6"):
        WorkergroupSpec(1, 1, "f", fallback_after_s=wrong)
