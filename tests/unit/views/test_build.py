"""What the page and the terminal show of an endpoint, its waiters, its workers and its reservations."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from nullworker.core import views as core_views
from nullworker.core.parameters import EndpointState
from nullworker.testing.small_world import ENDPOINT
from nullworker.views import build, types
from nullworker.views.history import UNWRITTEN_MAX, History
from nullworker.wire import tasks
from tests.unit.views.worlds import BOOT_S, WatchedWorld


def overview(world: WatchedWorld) -> types.EndpointOverview:
    view = core_views.endpoint(world.engine, ENDPOINT)
    assert view is not None
    return build.endpoint_overview(world.sources, view)


async def lanes(world: WatchedWorld, after: int = 0, since_s: float = 0.0) -> types.Lanes:
    text = await build.lanes_json(world.history, world.wall_s, after, since_s=since_s)
    return msgspec.json.decode(text, type=types.Lanes)


def headline(world: WatchedWorld) -> str:
    return overview(world).headline


def world_with_held(count: int, **parameters: Any) -> WatchedWorld:
    """Each of ``count`` requests holds a worker of its own."""
    world = WatchedWorld(**parameters)
    for request_idx in range(1, count + 1):
        world.ask(request_idx)
    world.pass_time(BOOT_S + 5)
    assert len(world.holders()) == count
    return world


def test_an_endpoint_that_does_nothing_says_so() -> None:
    assert headline(WatchedWorld()) == "no worker is up"


def test_the_first_start_of_all_cannot_be_estimated() -> None:
    world = WatchedWorld()
    world.ask(1)
    world.pass_time(1)
    assert headline(world) == "no worker is up, 1 coming up, 1 waits, no time can be told"
    assert overview(world).next == types.Eta(None, "1 coming up, and no start was seen to its end yet")


def test_at_the_cap_it_says_how_many_wait_and_when_the_next_gets_a_worker() -> None:
    world = world_with_held(2, max_workers=2)
    world.ask(3)
    world.pass_time(55)
    world.close(1)  # held for a minute
    world.pass_time(5)
    world.ask(4)
    world.pass_time(1)
    seen = overview(world)
    assert seen.headline.startswith("2 of 2 held, max_workers 2, 1 waits, next ")
    assert (seen.held, seen.ready, seen.waiting, seen.why_code) == (2, 0, 1, "at_cap")
    assert seen.next.ground == "2 held, median hold 60 s of the last 1 hold"
    assert seen.oldest_s == 1.0


def test_a_start_is_estimated_from_those_before_it() -> None:
    world = world_with_held(1)
    world.ask(2)
    world.pass_time(11)
    eta = overview(world).next
    assert eta.ground.startswith("1 coming up, median start 40 s of the last 1 start")
    assert eta.in_s is not None
    assert 25 < eta.in_s <= 30


def test_workers_that_send_no_reports_are_not_called_busy() -> None:
    world = world_with_held(2)
    for box in world.boxes.values():
        box.mute = True
    world.pass_time(25)
    assert headline(world) == "0 of 2 workers answer"


def test_a_suspended_endpoint_tells_no_time() -> None:
    world = WatchedWorld(state=EndpointState.SUSPENDED)
    world.ask(1)
    world.pass_time(1)
    assert headline(world) == "suspended, no worker is up, 1 waits, no time can be told"
    assert overview(world).next.ground == "the endpoint is suspended"


def test_the_waiting_line_has_position_age_reason_and_ground() -> None:
    world = world_with_held(1, max_workers=1)
    world.ask(2)
    world.pass_time(2)
    world.ask(3)
    world.pass_time(1)
    line = build.waiting_line(world.sources)
    assert line.total == 2
    assert [(row.position, row.request_idx, row.age_s, row.reason_code) for row in line.rows] == [
        (1, 2, 3.0, "at_cap"),
        (2, 3, 1.0, "at_cap"),
    ]
    assert line.rows[0].reason == "1 worker is held, and max_workers is 1"
    assert line.rows[0].eta == types.Eta(None, "1 held, and no hold was seen to its end yet")


async def test_a_worker_s_lane_has_every_state_and_what_it_held() -> None:
    world = world_with_held(1, inactivity_timeout=10.0)
    world.close(1)
    world.pass_time(20)
    (lane,) = (await lanes(world)).lanes
    assert [state.state for state in lane.states] == [
        *("asked", "creating", "held", "ready", "destroying", "gone"),
    ]
    (hold,) = lane.holds
    assert hold.request_idx == 1
    assert hold.until_s is not None
    assert lane.states[2].at_s == hold.from_s


async def test_only_lanes_that_changed_are_sent_again() -> None:
    world = world_with_held(2)
    first = await lanes(world)
    assert first.whole
    assert len(first.lanes) == 2
    world.close(2)
    world.pass_time(1)
    then = await lanes(world, first.serial)
    assert not then.whole
    assert [lane.holds[0].request_idx for lane in then.lanes] == [2]
    (new,) = (await lanes(world, first.serial, world.wall_s - 2)).lanes
    assert [state.state for state in new.states] == ["ready"]
    assert new.holds == then.lanes[0].holds


def test_what_is_gone_for_an_hour_is_forgotten() -> None:
    world = world_with_held(1)
    world.close(1)
    world.pass_time(100)
    assert world.history.forget_old(world.wall_s) == []
    world.pass_time(3600)
    assert world.history.forget_old(world.wall_s) == [1]
    assert world.history.workers == {}
    assert world.history.reservations == {}


def test_the_story_of_a_worker_says_why_it_is_up() -> None:
    world = world_with_held(1)
    story = build.worker_story(world.sources, 1, ())
    assert story is not None
    assert story.answer.startswith("Worker 1 is up because it holds request 1 for ")
    assert (story.endpoint, story.state, story.request_idxs) == ("null", "held", (1,))
    assert build.worker_story(world.sources, 99, ()) is None


def test_the_story_of_a_reservation_has_its_stages() -> None:
    world = world_with_held(1)
    story = build.reservation_story(world.sources, 1, ())
    assert story is not None
    assert [row.stage for row in story.stages] == ["waiting", "granted", "session"]
    world.close(1)
    world.pass_time(1)
    story = build.reservation_story(world.sources, 1, ())
    assert story is not None
    assert (story.stage, story.answer) == ("ended", "Request 1 is over.")


def test_one_that_waits_is_told_when() -> None:
    world = world_with_held(1)
    world.ask(2)
    world.pass_time(1)
    story = build.reservation_story(world.sources, 2, ())
    assert story is not None
    assert story.eta is not None
    assert story.eta.in_s is not None


def test_a_chart_has_no_more_points_than_can_be_seen_and_ends_with_the_last() -> None:
    points = [types.ChartPoint(float(at), 0, 0, 0, 0) for at in range(1000)]
    thinned = build.thinned(points)
    assert len(thinned) <= build.CHART_POINTS
    assert thinned[-1] is points[-1]
    assert build.thinned(points[:10]) == points[:10]


async def test_ten_thousand_lanes_let_others_have_their_turn() -> None:
    history = History()
    for worker_id in range(1, 1_001):
        history.worker(1.0, worker_id, "ready", 1, 2)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = tasks.start(other())
    whole = msgspec.json.decode(await build.lanes_json(history, 2.0, 0), type=types.Lanes)
    running.cancel()
    assert len(whole.lanes) == 1_000
    assert turns >= 1_000 // build.LANES_AT_ONCE
    history.worker(3.0, 7, "held", 1, 2)
    then = msgspec.json.decode(await build.lanes_json(history, 3.0, whole.serial), type=types.Lanes)
    assert [(lane.worker_id, lane.states[-1].state) for lane in then.lanes] == [(7, "held")]


def test_more_changes_than_a_disk_takes_are_not_kept_for_it() -> None:
    history = History()
    history.unwritten = []
    for number in range(UNWRITTEN_MAX):
        history.worker(float(number), number, "ready", 1, 2)
        history.worker(float(number), number, "held", 1, 2)
    assert len(history.unwritten) == UNWRITTEN_MAX
    assert all(len(worker.states) == 2 for worker in history.workers.values())


async def test_a_job_that_is_told_later_is_on_the_lane() -> None:
    world = world_with_held(1)
    before = (await lanes(world)).serial
    world.history.job(1, "tile 17")
    world.history.job(99, "none such")
    (changed,) = (await lanes(world, before)).lanes
    assert [(hold.request_idx, hold.job) for hold in changed.holds] == [(1, "tile 17")]
    world.close(1)
    world.pass_time(1)
    assert [hold.job for hold in (await lanes(world)).lanes[0].holds] == ["tile 17"]
