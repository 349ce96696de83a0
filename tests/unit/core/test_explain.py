"""One sentence, with its numbers, on why an endpoint, a worker or a request is as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nullworker.core import events, explain
from nullworker.core.parameters import TESTED_PARAMETERS, EndpointState
from nullworker.testing.small_world import ENDPOINT, GROUP, SmallWorld

pytestmark = pytest.mark.promise("P13")


def worker(world: SmallWorld, worker_id: int = 1) -> str:
    return explain.about_worker(world.engine, worker_id, world.now)


def request(world: SmallWorld, request_idx: int = 1) -> str:
    return explain.about_request(world.engine, request_idx, world.now)


def endpoint(world: SmallWorld) -> str:
    return explain.about_endpoint(world.engine, ENDPOINT, world.now)


def test_of_a_worker_through_its_life() -> None:
    world = SmallWorld(TESTED_PARAMETERS, hop_s=1.0)
    world.ask(1)
    world.pass_time(1)
    assert worker(world) == "Worker 1 has been coming up (creating) for 0.9 s, of 1800 s."
    world.pass_time(1.5)
    assert worker(world) == "Worker 1 is up because it was given to request 1 0.4 s ago."
    world.pass_time(40)
    assert worker(world) == "Worker 1 is up because it holds request 1 for 40.4 s."
    world.send(events.WorkersUpdated(GROUP))
    assert worker(world).endswith("it goes when that ends, for its workergroup is updated.")
    world.send(events.WorkersUpdated(GROUP, cancel=True))
    world.boxes[1].error = "out of memory"
    world.report(1)
    assert "it failed 0.0 s ago (out of memory), and goes when that ends" in worker(world)
    world.close(1)
    assert worker(world) == "Worker 1 has been destroying for 0.0 s: out of memory."
    world.pass_time(10)
    assert worker(world) == ""


def test_of_a_free_worker_when_it_goes_or_why_it_stays() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(3)
    world.close(1)
    world.pass_time(4)
    free = "Worker 1 is up and free for 4.0 s"
    assert worker(world) == f"{free}; it goes in 6.0 s unless it is needed (inactivity_timeout 10 s)."
    for changed, why in (
        (replace(TESTED_PARAMETERS, min_load=100.0), ", and stays because perf 100 is wanted and 100 is there."),
        (replace(TESTED_PARAMETERS, inactivity_timeout=-1.0), "inactivity_timeout -1 keeps the last one."),
        (replace(TESTED_PARAMETERS, state=EndpointState.SUSPENDED), "; its endpoint is suspended, and nothing goes."),
    ):
        world.send(events.EndpointPut(ENDPOINT, "null", changed))
        assert worker(world).startswith(free)
        assert worker(world).endswith(why)


def test_of_one_that_joined_one_that_is_inactive_and_one_that_is_silent() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, cold_workers=1))
    world.pass_time(30)
    assert worker(world).startswith("Worker 1 has been inactive for ")
    assert "kept for cold_workers 1 (" in worker(world)
    world.join(500)
    world.pass_time(5)
    assert worker(world, 500) == "Worker 500 is up and free for 5.0 s; it joined by itself, and stays."
    world.boxes[500].mute = True
    world.pass_time(16)
    assert "it has sent no report for 21.0 s, so it gets nothing new" in worker(world, 500)


def test_of_a_request_from_its_asking_to_its_end() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=1), hop_s=1.0)
    world.ask(1)
    world.ask(2)
    world.pass_time(1)
    assert request(world, 2) == (
        "Request 2 waits for 1.0 s, number 2 of 2, because 1 worker is coming up for 2 waiting."
    )
    world.pass_time(1.5)
    assert request(world).startswith("Request 1 was given worker 1 0.4 s ago, which has not confirmed it; the grant")
    world.pass_time(10)
    assert request(world) == "Request 1 holds worker 1 for 10.4 s."
    world.pass_time(4.8)
    assert "; its client last asked " in request(world, 2)
    world.close(1)
    assert request(world) == ""
    assert request(world, 2) == "Request 2 has worker 1 kept for it for 0.0 s, until it asks again."


def test_of_an_endpoint() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=2))
    for idx in (1, 2, 3):
        world.ask(idx)
    world.pass_time(5)
    assert endpoint(world) == (
        "null has 2 workers held, 0 free, 0 coming up: a load of 300 (held 200, min_load 0) at target_util 1 wants "
        "perf 300, of 200 there or coming; 1 wait, the first of them for 5.0 s, because 2 workers are held, "
        "and max_workers is 2."
    )
    world.send(events.EndpointPut(ENDPOINT, "null", replace(TESTED_PARAMETERS, state=EndpointState.STOPPED)))
    assert endpoint(world).endswith("because the endpoint is stopped; it is stopped.")
    world.send(events.EndpointDeleted(ENDPOINT))
    assert endpoint(world).endswith("; it is deleted, and gone with its last worker.")
    assert explain.about_endpoint(world.engine, 99, world.now) == ""


def test_a_session_that_was_taken_over_is_told_of_since_then() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(10)
    world.crash()
    world.start_again()
    world.pass_time(4)
    assert request(world) == "Request 1 holds worker 1 for 4.0 s."
