"""The engine's mind: ``handle(event, now) -> commands`` is the only way to change its state.

It is pure and deterministic: no clock, no chance, no I/O; the same events at the same times give the same commands. An
event is first taken in (by the module that knows its kind), then the endpoints that it touched are settled: whoever was
only waited for goes, waiters get workers, and what is missing is recruited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import events, fleet_news, limits, operators, reports, routing, scaling, verdicts
from nullworker.core.ledger import Ledger
from nullworker.core.timers import Timer
from nullworker.core.workers import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core.commands import Command
    from nullworker.core.events import Event


class Engine:
    """One engine. ``ledger`` is for reading (snapshots, invariants); only `handle` changes it."""

    __slots__ = ("_last_now", "ledger")

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._last_now: float | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Takes one event in and returns what is to be done about it, in order.

        ``now`` is in seconds of a monotonic clock; one that runs backwards is taken as standing still.
        """
        ledger = self.ledger
        now = self._mind_the_clock(now)
        ledger.now = now
        ledger.cause += 1
        ledger.begun = ledger.begun or not isinstance(event, _CONFIGURATION)
        ledger.out, ledger.changed_workers, ledger.changed_reservations = [], {}, {}
        _HANDLERS[type(event)](ledger, event)
        self._settle()
        return ledger.out

    def wake_at(self) -> float | None:
        """When time alone will change something: send `TimePassed` then. None: never."""
        return self.ledger.timers.next_at()

    def why_waiting(self, request_idx: int) -> str:
        """One sentence on why the waiter has no worker yet ("" if it does not wait)."""
        return operators.why_waiting(self.ledger, request_idx)

    def _mind_the_clock(self, now: float) -> float:
        """Keeps time from running backwards, and notices that we slept through something that was due."""
        last, self._last_now = self._last_now, now
        if last is None:
            return now
        if now < last:
            self._last_now = last
            return last
        due = self.ledger.timers.next_at()
        if due is not None and now - max(due, last) > limits.SUSPENDED_AFTER_S:
            self.ledger.listening_since = now
            self.ledger.quiet_until = now + limits.QUIET_S
        return now

    def _settle(self) -> None:
        ledger = self.ledger
        while ledger.freed or ledger.touched:
            freed, ledger.freed = ledger.freed, []
            for worker in freed:
                if worker.state is not State.GONE:
                    verdicts.released(ledger, worker)
            touched, ledger.touched = ledger.touched, {}
            for endpoint_id in touched:
                pool = ledger.pools.get(endpoint_id)
                if pool is not None:
                    if not ledger.begun:
                        ledger.timers.set(ledger.now, Timer.SCALE, endpoint_id)
                        continue
                    routing.assign(ledger, pool)
                    scaling.recruit(ledger, pool)
                    scaling.plan_trim(ledger, pool)
                    _plan_press(ledger, pool.endpoint_id)


def _plan_press(ledger: Ledger, endpoint_id: int) -> None:
    """Reminds of the moment at which the oldest young waiter has waited for `target_queue_time`."""
    pool = ledger.pools[endpoint_id]
    first = pool.oldest_young()
    if first is not None:
        due = first.asked_at + pool.parameters.target_queue_time
        if pool.press_at is None or due < pool.press_at or pool.press_at <= ledger.now:
            pool.press_at = due
            ledger.timers.set(due, Timer.PRESS, endpoint_id)


def _press(ledger: Ledger, endpoint_id: int) -> None:
    pool = ledger.pools.get(endpoint_id)
    if pool is None:
        return
    pool.press_at = None
    while (first := pool.oldest_young()) is not None:
        if first.asked_at + pool.parameters.target_queue_time > ledger.now:
            break
        pool.age(first)
    ledger.touch(endpoint_id)


def _trim(ledger: Ledger, endpoint_id: int) -> None:
    pool = ledger.pools.get(endpoint_id)
    if pool is not None and pool.trim_at is not None and pool.trim_at <= ledger.now:
        scaling.trim(ledger, pool)


def _time_passed(ledger: Ledger) -> None:
    """Looks at everything whose time has come."""
    while (due := ledger.timers.pop_due(ledger.now)) is not None:
        kind, key = due
        _REMINDERS[kind](ledger, key)


_REMINDERS: dict[Timer, Callable[[Ledger, int], None]] = {
    Timer.WAITER: routing.waiter_due,
    Timer.GRANT: routing.grant_due,
    Timer.WORKER: verdicts.worker_due,
    Timer.PRESS: _press,
    Timer.TRIM: _trim,
    Timer.SCALE: Ledger.touch,
}

#: What comes before anything else at a start: nothing is recruited before the next event, which may be `Restored`.
_CONFIGURATION = (events.EndpointPut, events.WorkergroupPut)

#: Each handler takes the event type that is its key.
_HANDLERS: dict[type, Callable[[Ledger, Any], None]] = {
    events.Asked: routing.ask,
    events.HoldEnded: lambda ledger, e: routing.hold_ended(ledger, e.request_idx),
    events.WaiterGone: lambda ledger, e: routing.gone(ledger, e.request_idx),
    events.WorkerReported: reports.report,
    events.RequestsFinished: reports.finished,
    events.WorkerJoined: operators.worker_joined,
    events.InstanceCreated: lambda ledger, e: fleet_news.created(ledger, e.worker_id),
    events.InstanceStarted: lambda ledger, e: fleet_news.started(ledger, e.worker_id),
    events.InstanceStopped: lambda ledger, e: fleet_news.stopped(ledger, e.worker_id),
    events.InstanceGone: lambda ledger, e: fleet_news.gone(ledger, e.worker_id),
    events.InstanceExited: lambda ledger, e: fleet_news.exited(ledger, e.worker_id, e.detail),
    events.InstanceFailed: fleet_news.failed,
    events.FleetListed: fleet_news.listed,
    events.EndpointPut: operators.endpoint_put,
    events.EndpointDeleted: operators.endpoint_deleted,
    events.WorkergroupPut: operators.workergroup_put,
    events.WorkergroupDeleted: operators.workergroup_deleted,
    events.WorkersUpdated: operators.workers_updated,
    events.TimePassed: lambda ledger, _: _time_passed(ledger),
    events.Restored: operators.restored,
}
