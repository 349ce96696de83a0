"""The engine under any order of events, valid or not: nothing escapes, the tables agree, the journal replays."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from nullworker.core import commands, events, journal, recovery
from nullworker.core.parameters import EndpointState, Parameters, WorkergroupSpec
from nullworker.core.worker import WorkerState
from nullworker.testing.clock import HandClock

ENDPOINTS = st.integers(1, 3)  # 3 is often unknown
GROUPS = st.integers(1, 4)
WORKERS = st.integers(1, 12)
REQUESTS = st.integers(1, 12)
COSTS = st.sampled_from([0.0, 1.0, 50.0, 100.0, 200.0, 1e9, 1e308, float("nan"), float("inf"), -1.0])
AMOUNTS = st.sampled_from([0.0, 50.0, 100.0, 1e9, 1e308, 1e-9, float("nan"), float("-inf")])
STEPS = st.sampled_from([0.0, 0.001, 0.5, 1.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 61.0, 301.0, 2000.0, -3.0])


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    return Parameters(
        min_load=draw(st.sampled_from([0.0, 1.0, 100.0, 350.0])),
        target_util=draw(st.sampled_from([1.0, 0.9, 0.3])),
        cold_mult=draw(st.sampled_from([0.0, 1.0, 3.0])),
        cold_workers=draw(st.integers(0, 3)),
        min_cold_load=draw(st.sampled_from([0.0, 150.0])),
        max_workers=draw(st.integers(0, 6)),
        max_queue_time=draw(st.sampled_from([0.0, 1.0, 30.0])),
        target_queue_time=draw(st.sampled_from([0.0, 0.5, 10.0])),
        inactivity_timeout=draw(st.sampled_from([None, 0.0, -1.0, 1.0, 10.0])),
        state=draw(st.sampled_from([EndpointState.ACTIVE] * 4 + [EndpointState.SUSPENDED, EndpointState.STOPPED])),
    )


class AnyOrder(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scene = HandClock()

    def send(self, event: events.Event) -> None:
        for command in self.scene.send(event):
            assert command.reason
            assert command.event_number == self.scene.engine.state.event_number
            if isinstance(command, (commands.Stop, commands.Destroy)):
                worker = self.scene.engine.state.workers.get(command.worker_id)
                assert worker is None or not worker.held

    @initialize(first=parameters(), second=parameters())
    def begin(self, first: Parameters, second: Parameters) -> None:
        for endpoint_id, put in ((1, first), (2, second)):
            self.send(events.EndpointPut(endpoint_id, f"e{endpoint_id}", put))
            self.send(events.WorkergroupPut(WorkergroupSpec(endpoint_id, endpoint_id, "f", occupancy=1)))

    # ------------------------------------------------------------------------------------------------------ clients

    @rule(endpoint_id=ENDPOINTS, request_idx=REQUESTS, cost=COSTS, timeout=st.sampled_from([60.0, 0.0, float("nan")]))
    def asks(self, endpoint_id: int, request_idx: int, cost: float, timeout: float) -> None:
        self.send(events.Asked(endpoint_id, request_idx, cost, timeout))

    @rule(request_idx=REQUESTS)
    def asks_well(self, request_idx: int) -> None:
        self.send(events.Asked(1, request_idx, 100.0))

    @rule(request_idx=REQUESTS)
    def hold_ends(self, request_idx: int) -> None:
        self.send(events.HoldEnded(request_idx))

    @rule(request_idx=REQUESTS)
    def goes(self, request_idx: int) -> None:
        self.send(events.WaiterGone(request_idx))

    # ------------------------------------------------------------------------------------------------------ workers

    @rule(
        worker_id=WORKERS,
        ready=st.booleans(),
        error=st.sampled_from(["", "", "", "it broke"]),
        perf=AMOUNTS,
        load=AMOUNTS,
        held=st.lists(REQUESTS, max_size=3).map(tuple),
        received=st.integers(0, 5),
        seq=st.integers(0, 5),
        loadtime_s=st.sampled_from([0.0, 0.5, 0.75, math.nan]),
    )
    def reports(self, worker_id: int, **said: Any) -> None:
        url = said.pop("url", f"http://w{worker_id}")
        self.send(events.WorkerReported(worker_id, url, request_idxs=said.pop("held"), **said))

    @rule(worker_id=WORKERS, more=st.lists(REQUESTS, max_size=1))
    def reports_truly(self, worker_id: int, more: list[int]) -> None:
        worker = self.scene.engine.state.workers.get(worker_id)
        held = tuple({*(worker.held if worker else ()), *more})
        self.send(events.WorkerReported(worker_id, "http://w", True, "", 100.0, 100.0 * len(held), held, 9))

    @rule(
        worker_id=WORKERS,
        requests=st.lists(
            st.builds(
                events.Finished,
                REQUESTS,
                st.sampled_from(["Success", "Error", "Cancelled", "Rejected", "Nonsense"]),
                st.sampled_from([0.0, 1.0, 2.0]),
            ),
            max_size=3,
        ).map(tuple),
    )
    def finishes(self, worker_id: int, requests: tuple[events.Finished, ...]) -> None:
        self.send(events.RequestsFinished(worker_id, requests))

    @rule(worker_id=WORKERS, workergroup_id=GROUPS)
    def joins(self, worker_id: int, workergroup_id: int) -> None:
        self.send(events.WorkerJoined(worker_id, workergroup_id))

    # ------------------------------------------------------------------------------------------------------- fleets

    @rule(
        kind=st.sampled_from(
            [events.InstanceCreated, events.InstanceStarted, events.InstanceStopped, events.InstanceGone]
        ),
        worker_id=WORKERS,
    )
    def fleet_says(self, kind: Any, worker_id: int) -> None:
        self.send(kind(worker_id))

    @rule()
    def fleet_obeys(self) -> None:
        done: dict[WorkerState, Any] = {
            WorkerState.ASKED: events.InstanceCreated,
            WorkerState.STARTING: events.InstanceStarted,
            WorkerState.STOPPING: events.InstanceStopped,
            WorkerState.DESTROYING: events.InstanceGone,
        }
        for worker in list(self.scene.engine.state.workers.values()):
            if worker.state in done:
                self.send(done[worker.state](worker.worker_id))

    @rule(worker_id=WORKERS)
    def exits(self, worker_id: int) -> None:
        self.send(events.InstanceExited(worker_id, "exit code 1"))

    @rule(
        worker_id=WORKERS,
        verb=st.sampled_from(["create", "start", "stop", "destroy", "dance"]),
        definite=st.booleans(),
    )
    def fleet_fails(self, worker_id: int, verb: str, *, definite: bool) -> None:
        self.send(events.InstanceFailed(worker_id, verb, "no room", definite))

    @rule(
        ago=st.sampled_from([0.0, 1.0, 70.0]),
        instances=st.lists(
            st.tuples(WORKERS, st.sampled_from(["running", "stopped", "exited"])), max_size=6, unique_by=lambda i: i[0]
        ).map(tuple),
        fleet=st.sampled_from(["f", "f", "g"]),
    )
    def is_listed(self, ago: float, instances: tuple[tuple[int, str], ...], fleet: str) -> None:
        self.send(events.FleetListed(fleet, self.scene.now - ago, instances))

    # ---------------------------------------------------------------------------------------------------- operators

    @rule(endpoint_id=ENDPOINTS, put=parameters())
    def endpoint_is_put(self, endpoint_id: int, put: Parameters) -> None:
        self.send(events.EndpointPut(endpoint_id, "e", put))

    @rule(endpoint_id=ENDPOINTS, force=st.booleans())
    def endpoint_is_deleted(self, endpoint_id: int, *, force: bool) -> None:
        self.send(events.EndpointDeleted(endpoint_id, force))

    @rule(
        workergroup_id=GROUPS,
        endpoint_id=ENDPOINTS,
        perf=st.sampled_from([100.0, 1.0, 400.0]),
        occupancy=st.sampled_from([None, 1, 2]),
        most=st.sampled_from([None, 0, 2]),
    )
    def group_is_put(
        self, workergroup_id: int, endpoint_id: int, perf: float, occupancy: int | None, most: int | None
    ) -> None:
        spec = WorkergroupSpec(workergroup_id, endpoint_id, "f", perf, occupancy, price_per_hour=perf, max_workers=most)
        self.send(events.WorkergroupPut(spec))

    @rule(workergroup_id=GROUPS)
    def group_is_deleted(self, workergroup_id: int) -> None:
        self.send(events.WorkergroupDeleted(workergroup_id))

    @rule(workergroup_id=GROUPS, cancel=st.booleans())
    def workers_are_updated(self, workergroup_id: int, *, cancel: bool) -> None:
        self.send(events.WorkersUpdated(workergroup_id, cancel))

    # --------------------------------------------------------------------------------------------------------- time

    @rule(transition=STEPS)
    def time_passes(self, transition: float) -> None:
        if transition > 0:
            self.scene.pass_time(transition)
        else:
            self.scene.oversleep(transition)

    @rule(transition=STEPS)
    def sleeps(self, transition: float) -> None:
        self.scene.oversleep(transition)

    @rule(
        workers=st.lists(
            st.builds(
                events.RestoredWorker,
                WORKERS,
                GROUPS,
                st.sampled_from([*(state.value for state in WorkerState), "unheard of"]),
                st.just("http://w"),
                st.sampled_from([0.0, 100.0]),
                st.booleans(),
            ),
            max_size=4,
        ).map(tuple),
        reservations=st.lists(
            st.builds(
                events.RestoredReservation, REQUESTS, ENDPOINTS, st.just(100.0), st.integers(0, 12), st.booleans()
            ),
            max_size=4,
        ).map(tuple),
        keeps=st.booleans(),
    )
    def restarts(
        self,
        workers: tuple[events.RestoredWorker, ...],
        reservations: tuple[events.RestoredReservation, ...],
        *,
        keeps: bool,
    ) -> None:
        """Anything may stand in a store: what stood there (``keeps``) or nonsense, also to an engine that runs."""
        before = self.scene
        state = before.engine.state
        if keeps:
            workers = tuple(filter(None, (recovery.worker_record(state, number) for number in state.workers)))
            reservations = tuple(filter(None, (recovery.reservation_record(state, idx) for idx in state.reservations)))
            self.replays_identically()
            self.scene = HandClock(before.now)
            for endpoint in state.endpoints.values():
                self.send(events.EndpointPut(endpoint.endpoint_id, endpoint.name, endpoint.parameters))
            for workergroup in state.workergroups.values():
                self.send(events.WorkergroupPut(workergroup.spec))
        self.send(events.Restored(state.next_worker_id, workers, reservations))

    # ------------------------------------------------------------------------------------------------- what must hold

    def replays_identically(self) -> None:
        handled, difference, _ = journal.replay(self.scene.journal_lines)
        assert difference is None
        assert handled == len(self.scene.journal_lines)

    def teardown(self) -> None:
        self.replays_identically()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=40, stateful_step_count=50, deadline=None)
