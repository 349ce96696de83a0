"""The engine: ``handle(event, now) -> commands`` is the only way to change its state.

It is pure and deterministic: no clock, no random numbers, no I/O; the same events at the same times give the same
commands. An event is first taken in (by the module of `intake` that knows its kind); then the endpoints that it changed
are settled: workers that only waited to be released go, waiters get workers, and missing workers are created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import events, failures, limits, recovery, routing, scaling
from nullworker.core.intake import admin, clients, fleet_events, reports
from nullworker.core.state import EngineState
from nullworker.core.timers import Timer, Timers
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core.commands import Command
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.events import Event


class Engine:
    """One engine. ``state`` is for reading (views, invariants, recovery); only `handle` changes it."""

    __slots__ = ("_last_now", "state")

    def __init__(self, timers: Timers | None = None, *, judges_silence: bool = True) -> None:
        """Makes an engine that knows nothing yet.

        Args:
            timers: keeps its reminders; the simulator's count how many are taken.
            judges_silence: False where workers report only when something happens: their silence means nothing.
        """
        self.state = EngineState(Timers() if timers is None else timers)
        if not judges_silence:
            self.state.listening.since = float("inf")
        self._last_now: float | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Takes one event in and returns what is to be done about it, in order.

        Args:
            event: what has happened.
            now: seconds of a monotonic clock; one that runs backwards is taken as standing still.
        """
        state = self.state
        state.begin(self._checked_time(now))
        state.begun = state.begun or not isinstance(event, _CONFIGURATION)
        _HANDLERS[type(event)](state, event)
        _settle(state)
        return state.out

    def wake_at(self) -> float | None:
        """When time alone will change something: send `TimePassed` then. None: never."""
        return self.state.timers.next_at()

    def _checked_time(self, now: float) -> float:
        """Keeps time from running backwards, and notices that we slept through something that was due."""
        last, self._last_now = self._last_now, now
        if last is None:
            return now
        if now < last:
            self._last_now = last
            return last
        if now - last > limits.SUSPENDED_AFTER_S:
            due = self.state.timers.next_at()
            if due is not None and now - due > limits.SUSPENDED_AFTER_S:
                self.state.was_absent(now)
        return now


def _settle(state: EngineState) -> None:
    while state.freed or state.dirty:
        freed, state.freed = state.freed, []
        for worker in freed:
            if worker.state is not WorkerState.GONE:
                failures.released(state, worker)
        dirty, state.dirty = state.dirty, {}
        for endpoint_id in dirty:
            endpoint = state.endpoints.get(endpoint_id)
            if endpoint is None:
                continue
            if not state.begun:
                state.timers.set(state.now, Timer.SCALE, endpoint_id)
                continue
            routing.assign(state, endpoint)
            scaling.scale_up(state, endpoint)
            scaling.plan_scale_down(state, endpoint)
            _plan_overdue(state, endpoint)


def _plan_overdue(state: EngineState, endpoint: Endpoint) -> None:
    """Sets the timer for the next waiter that will have waited for `target_queue_time`."""
    first = endpoint.line.next_overdue()
    if first is not None:
        due = first.asked_at + endpoint.parameters.target_queue_time
        if endpoint.overdue_at is None or due < endpoint.overdue_at or endpoint.overdue_at <= state.now:
            endpoint.overdue_at = due
            state.timers.set(due, Timer.OVERDUE, endpoint.endpoint_id)


def _overdue_due(state: EngineState, endpoint_id: int) -> None:
    endpoint = state.endpoints.get(endpoint_id)
    if endpoint is None:
        return
    endpoint.overdue_at = None
    while (first := endpoint.line.next_overdue()) is not None:
        if first.asked_at + endpoint.parameters.target_queue_time > state.now:
            break
        endpoint.line.set_overdue(first)
    state.mark_dirty(endpoint_id)


def _scale_down_due(state: EngineState, endpoint_id: int) -> None:
    endpoint = state.endpoints.get(endpoint_id)
    if endpoint is not None and endpoint.scale_down_at is not None and endpoint.scale_down_at <= state.now:
        scaling.scale_down(state, endpoint)


def _time_passed(state: EngineState) -> None:
    """Looks at everything whose time has come."""
    while (due := state.timers.pop_due(state.now)) is not None:
        kind, key = due
        _ON_TIMER[kind](state, key)


_ON_TIMER: dict[Timer, Callable[[EngineState, int], None]] = {
    Timer.WAITER: clients.waiter_due,
    Timer.GRANT: clients.grant_due,
    Timer.WORKER: failures.worker_due,
    Timer.OVERDUE: _overdue_due,
    Timer.SCALE_DOWN: _scale_down_due,
    Timer.SCALE: EngineState.mark_dirty,
}

#: What comes before anything else at a start: no worker is created before the next event, which may be `Restored`.
_CONFIGURATION = (events.EndpointPut, events.WorkergroupPut)

#: Each handler takes the event type that is its key.
_HANDLERS: dict[type, Callable[[EngineState, Any], None]] = {
    events.Asked: clients.ask,
    events.HoldEnded: lambda state, e: clients.hold_ended(state, e.request_idx),
    events.WaiterGone: lambda state, e: clients.gone(state, e.request_idx),
    events.WorkerReported: reports.report,
    events.ReportRefused: reports.refused,
    events.RequestsFinished: reports.finished,
    events.WorkerJoined: admin.worker_joined,
    events.InstanceCreated: lambda state, e: fleet_events.created(state, e.worker_id),
    events.InstanceStarted: lambda state, e: fleet_events.started(state, e.worker_id),
    events.InstanceStopped: lambda state, e: fleet_events.stopped(state, e.worker_id),
    events.InstanceGone: lambda state, e: fleet_events.gone(state, e.worker_id),
    events.InstanceExited: lambda state, e: fleet_events.exited(state, e.worker_id, e.detail),
    events.InstanceFailed: fleet_events.failed,
    events.FleetListed: fleet_events.listed,
    events.EndpointPut: admin.endpoint_put,
    events.EndpointDeleted: admin.endpoint_deleted,
    events.WorkergroupPut: admin.workergroup_put,
    events.WorkergroupDeleted: admin.workergroup_deleted,
    events.WorkersUpdated: admin.workers_updated,
    events.TimePassed: lambda state, _: _time_passed(state),
    events.Restored: recovery.restored,
}
