"""The engine's mind: ``handle(event, now) -> commands`` is the only way to change its state.

It is pure and deterministic: no clock, no chance, no I/O; the same events at the same times give the same commands. An
event is first taken in (by the module that knows its kind), then the endpoints that it touched are settled: whoever was
only waited for goes, waiters get workers, and what is missing is recruited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import admin, events, failures, fleet_events, limits, reports, routing, scaling
from nullworker.core.state import EngineState
from nullworker.core.timers import Timer
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core.commands import Command
    from nullworker.core.events import Event


class Engine:
    """One engine. ``ledger`` is for reading (snapshots, invariants); only `handle` changes it."""

    __slots__ = ("_last_now", "state")

    def __init__(self) -> None:
        self.state = EngineState()
        self._last_now: float | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Takes one event in and returns what is to be done about it, in order.

        ``now`` is in seconds of a monotonic clock; one that runs backwards is taken as standing still.
        """
        state = self.state
        now = self._checked_time(now)
        state.now = now
        state.cause += 1
        state.begun = state.begun or not isinstance(event, _CONFIGURATION)
        state.out, state.changed_workers, state.changed_reservations = [], {}, {}
        _HANDLERS[type(event)](state, event)
        self._settle()
        return state.out

    def wake_at(self) -> float | None:
        """When time alone will change something: send `TimePassed` then. None: never."""
        return self.state.timers.next_at()

    def why_waiting(self, request_idx: int) -> str:
        """One sentence on why the waiter has no worker yet ("" if it does not wait)."""
        return admin.why_waiting(self.state, request_idx)

    def _checked_time(self, now: float) -> float:
        """Keeps time from running backwards, and notices that we slept through something that was due."""
        last, self._last_now = self._last_now, now
        if last is None:
            return now
        if now < last:
            self._last_now = last
            return last
        due = self.state.timers.next_at()
        if due is not None and now - max(due, last) > limits.SUSPENDED_AFTER_S:
            self.state.listening_since = now
            self.state.quiet_until = now + limits.QUIET_S
        return now

    def _settle(self) -> None:
        state = self.state
        while state.freed or state.dirty:
            freed, state.freed = state.freed, []
            for worker in freed:
                if worker.state is not WorkerState.GONE:
                    failures.released(state, worker)
            dirty, state.dirty = state.dirty, {}
            for endpoint_id in dirty:
                endpoint = state.endpoints.get(endpoint_id)
                if endpoint is not None:
                    if not state.begun:
                        state.timers.set(state.now, Timer.SCALE, endpoint_id)
                        continue
                    routing.assign(state, endpoint)
                    scaling.scale_up(state, endpoint)
                    scaling.plan_scale_down(state, endpoint)
                    _plan_overdue(state, endpoint.endpoint_id)


def _plan_overdue(state: EngineState, endpoint_id: int) -> None:
    """Reminds of the moment at which the oldest young waiter has waited for `target_queue_time`."""
    endpoint = state.endpoints[endpoint_id]
    first = endpoint.next_overdue()
    if first is not None:
        due = first.asked_at + endpoint.parameters.target_queue_time
        if endpoint.overdue_at is None or due < endpoint.overdue_at or endpoint.overdue_at <= state.now:
            endpoint.overdue_at = due
            state.timers.set(due, Timer.OVERDUE, endpoint_id)


def _overdue_due(state: EngineState, endpoint_id: int) -> None:
    endpoint = state.endpoints.get(endpoint_id)
    if endpoint is None:
        return
    endpoint.overdue_at = None
    while (first := endpoint.next_overdue()) is not None:
        if first.asked_at + endpoint.parameters.target_queue_time > state.now:
            break
        endpoint.becomes_overdue(first)
    state.mark_dirty(endpoint_id)


def _scale_down_due(state: EngineState, endpoint_id: int) -> None:
    endpoint = state.endpoints.get(endpoint_id)
    if endpoint is not None and endpoint.scale_down_at is not None and endpoint.scale_down_at <= state.now:
        scaling.scale_down(state, endpoint)


def _time_passed(state: EngineState) -> None:
    """Looks at everything whose time has come."""
    while (due := state.timers.pop_due(state.now)) is not None:
        kind, key = due
        _REMINDERS[kind](state, key)


_REMINDERS: dict[Timer, Callable[[EngineState, int], None]] = {
    Timer.WAITER: routing.waiter_due,
    Timer.GRANT: routing.grant_due,
    Timer.WORKER: failures.worker_due,
    Timer.OVERDUE: _overdue_due,
    Timer.SCALE_DOWN: _scale_down_due,
    Timer.SCALE: EngineState.mark_dirty,
}

#: What comes before anything else at a start: nothing is recruited before the next event, which may be `Restored`.
_CONFIGURATION = (events.EndpointPut, events.WorkergroupPut)

#: Each handler takes the event type that is its key.
_HANDLERS: dict[type, Callable[[EngineState, Any], None]] = {
    events.Asked: routing.ask,
    events.HoldEnded: lambda state, e: routing.hold_ended(state, e.request_idx),
    events.WaiterGone: lambda state, e: routing.gone(state, e.request_idx),
    events.WorkerReported: reports.report,
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
    events.Restored: admin.restored,
}
