"""Bugs to plant in the core: each a change of its source that a checker or an invariant must notice.

`python -m tests.simulation.mutants` plants each and hunts until it is caught, 500 seeds at most; what caught it is kept in
caught.json, which the tests and docs/simulation.md go by.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """A bug: ``old`` stands once in ``file`` of nullworker/core, and becomes ``new``."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS: tuple[Mutation, ...] = (
    # Routing
    Mutation("last come, first served", "endpoint.py", "if not reservation.absent:\n            heapq.heappush(self.line, reservation.request_idx)", "if not reservation.absent:\n            heapq.heappush(self.line, -reservation.request_idx)"),
    Mutation("a waiter that left is kept", "routing.py", '        state.end(reservation)\n        state.note("waiter_gone"', '        state.note("waiter_gone"'),
    Mutation("a silent waiter is never forgotten", "routing.py", "        state.changed_reservations[request_idx] = None\n    state.timers.set(state.now + limits.POLL_GRACE_S, Timer.WAITER, request_idx)", "        state.changed_reservations[request_idx] = None"),
    Mutation("a grant never expires", "routing.py", "    if state.now < reservation.expires_at:\n        return\n    if reservation.deliveries", "    return\n    if reservation.deliveries"),
    Mutation("a stopped endpoint grants", "routing.py", "or endpoint.parameters.state is EndpointState.STOPPED:\n        return\n    while", "or False:\n        return\n    while"),
    Mutation("an expired grant leaves no doubt", "routing.py", "state.set_may_hold_unknown(worker, state.now)  # it may have been used all the same\n        state.set_unresponsive(worker, unresponsive=True)", "pass"),
    Mutation("a waiter whose grant ran out is forgotten", "routing.py", "    if present or answered == 0:\n        state.requeue", "    if answered == 0:\n        state.requeue"),
    Mutation("a full worker is offered again", "endpoint.py", "            and not worker.full\n", ""),
    Mutation("a suspect worker is granted", "endpoint.py", "if worker.unresponsive or worker.retire", "if worker.retire"),
    Mutation("who comes back has lost its place", "endpoint.py", "        if reservation.absent:\n            heapq.heappush(self.line, reservation.request_idx)\n", ""),
    # Scaling
    Mutation("waiters are no demand", "scaling.py", "load = max(parameters.min_load, endpoint.held_cost + urgent_cost)", "load = max(parameters.min_load, endpoint.held_cost)"),
    Mutation("no place for each waiter", "scaling.py", "return wanted.places > endpoint.slots and not endpoint.unbounded", "return False"),
    Mutation("one worker too many", "scaling.py", "return wanted.places > endpoint.slots and", "return wanted.places >= endpoint.slots and wanted.places and"),
    Mutation("the cap is not kept", "scaling.py", "if endpoint.existing >= endpoint.parameters.max_workers:\n        return False", "if False:\n        return False"),
    Mutation("the cap forgets those who leave", "scaling.py", "if endpoint.existing >= endpoint.parameters.max_workers:\n        return False", "if endpoint.staying >= endpoint.parameters.max_workers:\n        return False"),
    Mutation("free workers are never trimmed", "scaling.py", "if not worker.may_hold_unknown and _not_needed(endpoint, worker, wanted):", "if False:"),
    Mutation("trimming does not ask for the need", "scaling.py", "if not worker.may_hold_unknown and _not_needed(endpoint, worker, wanted):", "if not worker.may_hold_unknown:"),
    Mutation("trimming ignores doubt", "scaling.py", "if not worker.may_hold_unknown and _not_needed(endpoint, worker, wanted):", "if _not_needed(endpoint, worker, wanted):"),
    Mutation("a free worker goes at once", "scaling.py", "return worker.free_since + endpoint.parameters.idle_s", "return worker.free_since"),
    Mutation("inactive workers are never destroyed", "scaling.py", "not _cold_wants(endpoint, worker, wanted):\n            released += 1", "False:\n            released += 1"),
    Mutation("a suspended endpoint recruits", "scaling.py", "endpoint.parameters.state is not EndpointState.ACTIVE:", "endpoint.parameters.state is EndpointState.STOPPED:"),
    Mutation("a suspended endpoint trims", "scaling.py", "    if endpoint.parameters.state is EndpointState.SUSPENDED:\n        return\n", ""),
    Mutation("a restart has no quiet time", "admin.py", "    if event.workers:\n        state.quiet_until = state.now + limits.QUIET_S\n", ""),
    Mutation("a restart recruits at once", "scaling.py", "if endpoint.awaiting_report and state.now < state.quiet_until:", "if False:"),
    # Reports
    Mutation("late reports are believed", "reports.py", "or _is_late(state, worker, event):", "or False:"),
    Mutation("a report that does not list a grant ends it", "reports.py", "if r.stage is Stage.SESSION and r.request_idx not in listed]", "if r.request_idx not in listed]"),
    Mutation("sessions that a report lists no longer stay", "reports.py", "for over in [r for r in worker.held.values() if", "for over in [r for r in () if"),
    Mutation("unknown sessions are not adopted", "reports.py", "                _adopt(state, worker, request_idx, cost)", "                pass"),
    Mutation("a refusal is not heard", "reports.py", "            _rejected(state, worker, held)\n            continue", "            continue"),
    # Verdicts
    Mutation("an error kills a held worker", "failures.py", "    _drop_all(state, worker, reason, dead=dead)\n    if dead:", "    dead = True\n    _drop_all(state, worker, reason, dead=dead)\n    if dead:"),
    Mutation("silence is idleness", "failures.py", "    elif not worker.unresponsive:\n        state.set_unresponsive(worker, unresponsive=True)", "    elif worker.state is WorkerState.READY:\n        pass"),
    Mutation("no back-off", "failures.py", "workergroup.next_try_at = state.now + pause_s", "workergroup.next_try_at = state.now"),
    Mutation("orders are not repeated", "failures.py", "    if lasting in (WorkerState.STOPPING, WorkerState.DESTROYING):\n        _order_again(state, worker)", "    if lasting in (WorkerState.STOPPING, WorkerState.DESTROYING):\n        worker.order_at = state.now"),
    Mutation("a dead worker's waiter loses its place", "failures.py", "            state.requeue(reservation)\n            continue", "            state.end(reservation)\n            continue"),
    Mutation("an erring worker stays for ever", "failures.py", '            state.destroy(worker, f"failed, and released now: {worker.error}")', "            pass"),
    # Fleets and restarts
    Mutation("strangers are left alone", "fleet_events.py", "if age_s >= limits.LIST_LAG_S:", "if False:"),
    Mutation("strangers go without a grace", "fleet_events.py", "if age_s >= limits.LIST_LAG_S:", "if age_s >= 0:"),
    Mutation("an exit is not heard", "fleet_events.py", "    fail(state, worker, detail, dead=True)", "    pass"),
    Mutation("one list is believed over reports", "fleet_events.py", "if worker.state_since >= asked_at - limits.LIST_LAG_S or _lives(worker, asked_at):", "if worker.state_since >= asked_at:"),
    Mutation("a restart forgets sessions", "admin.py", "    state.hold(worker, reservation)\n", "    del state.reservations[record.request_idx]\n"),
    Mutation("a restart trusts silence", "admin.py", "worker.awaiting_report = worker.unresponsive = True", "worker.awaiting_report = True"),
    Mutation("a deleted endpoint keeps its waiters", "admin.py", '    routing.refuse_all(state, endpoint, f"endpoint {endpoint.name} is being deleted")\n', ""),
)  # fmt: skip
