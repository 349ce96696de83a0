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
    Mutation("last come, first served", "pool.py", "if not reservation.absent:\n            heapq.heappush(self.order, reservation.request_idx)", "if not reservation.absent:\n            heapq.heappush(self.order, -reservation.request_idx)"),
    Mutation("a waiter that left is kept", "routing.py", '        ledger.end(reservation)\n        ledger.note("waiter_gone"', '        ledger.note("waiter_gone"'),
    Mutation("a silent waiter is never forgotten", "routing.py", "        ledger.changed_reservations[request_idx] = None\n    ledger.timers.set(ledger.now + limits.POLL_GRACE_S, Timer.WAITER, request_idx)", "        ledger.changed_reservations[request_idx] = None"),
    Mutation("a grant never expires", "routing.py", "    if ledger.now < reservation.expires_at:\n        return\n    if reservation.answers", "    return\n    if reservation.answers"),
    Mutation("a stopped endpoint grants", "routing.py", "or pool.parameters.state is EndpointState.STOPPED:\n        return\n    while", "or False:\n        return\n    while"),
    Mutation("an expired grant leaves no doubt", "routing.py", "ledger.set_doubt(worker, ledger.now)  # it may have been used all the same\n        ledger.set_suspect(worker, suspect=True)", "pass"),
    Mutation("a waiter whose grant ran out is forgotten", "routing.py", "    if present or answered == 0:\n        ledger.requeue", "    if answered == 0:\n        ledger.requeue"),
    Mutation("a full worker is offered again", "pool.py", "            and not worker.full\n", ""),
    Mutation("a suspect worker is granted", "pool.py", "if worker.suspect or worker.retire", "if worker.retire"),
    Mutation("who comes back has lost its place", "pool.py", "        if reservation.absent:\n            heapq.heappush(self.order, reservation.request_idx)\n", ""),
    # Scaling
    Mutation("waiters are no demand", "scaling.py", "load = max(parameters.min_load, pool.held_cost + pressed_cost)", "load = max(parameters.min_load, pool.held_cost)"),
    Mutation("no place for each waiter", "scaling.py", "return wanted.places > pool.slots and not pool.unbounded", "return False"),
    Mutation("one worker too many", "scaling.py", "return wanted.places > pool.slots and", "return wanted.places >= pool.slots and wanted.places and"),
    Mutation("the cap is not kept", "scaling.py", "if pool.existing >= pool.parameters.max_workers:\n        return False", "if False:\n        return False"),
    Mutation("the cap forgets those who leave", "scaling.py", "if pool.existing >= pool.parameters.max_workers:\n        return False", "if pool.staying >= pool.parameters.max_workers:\n        return False"),
    Mutation("free workers are never trimmed", "scaling.py", "if not worker.doubt and _spare_of(pool, worker, wanted):", "if False:"),
    Mutation("trimming does not ask for the need", "scaling.py", "if not worker.doubt and _spare_of(pool, worker, wanted):", "if not worker.doubt:"),
    Mutation("trimming ignores doubt", "scaling.py", "if not worker.doubt and _spare_of(pool, worker, wanted):", "if _spare_of(pool, worker, wanted):"),
    Mutation("a free worker goes at once", "scaling.py", "return worker.free_since + pool.parameters.idle_s", "return worker.free_since"),
    Mutation("inactive workers are never destroyed", "scaling.py", "not _cold_wants(pool, worker, wanted):\n            released += 1", "False:\n            released += 1"),
    Mutation("a suspended endpoint recruits", "scaling.py", "pool.parameters.state is not EndpointState.ACTIVE:", "pool.parameters.state is EndpointState.STOPPED:"),
    Mutation("a suspended endpoint trims", "scaling.py", "    if pool.parameters.state is EndpointState.SUSPENDED:\n        return\n", ""),
    Mutation("a restart has no quiet time", "operators.py", "    if event.workers:\n        ledger.quiet_until = ledger.now + limits.QUIET_S\n", ""),
    Mutation("a restart recruits at once", "scaling.py", "if pool.unheard and ledger.now < ledger.quiet_until:", "if False:"),
    # Reports
    Mutation("late reports are believed", "reports.py", "or _is_late(ledger, worker, event):", "or False:"),
    Mutation("a report that does not list a grant ends it", "reports.py", "if r.stage is Stage.SESSION and r.request_idx not in listed]", "if r.request_idx not in listed]"),
    Mutation("sessions that a report lists no longer stay", "reports.py", "for over in [r for r in worker.held.values() if", "for over in [r for r in () if"),
    Mutation("unknown sessions are not adopted", "reports.py", "                _adopt(ledger, worker, request_idx, cost)", "                pass"),
    Mutation("a refusal is not heard", "reports.py", "            _rejected(ledger, worker, held)\n            continue", "            continue"),
    # Verdicts
    Mutation("an error kills a held worker", "verdicts.py", "    _drop_all(ledger, worker, reason, dead=dead)\n    if dead:", "    dead = True\n    _drop_all(ledger, worker, reason, dead=dead)\n    if dead:"),
    Mutation("silence is idleness", "verdicts.py", "    elif not worker.suspect:\n        ledger.set_suspect(worker, suspect=True)", "    elif worker.state is State.READY:\n        pass"),
    Mutation("no back-off", "verdicts.py", "group.next_try_at = ledger.now + pause_s", "group.next_try_at = ledger.now"),
    Mutation("orders are not repeated", "verdicts.py", "    if state in (State.STOPPING, State.DESTROYING):\n        _order_again(ledger, worker)", "    if state in (State.STOPPING, State.DESTROYING):\n        worker.order_at = ledger.now"),
    Mutation("a dead worker's waiter loses its place", "verdicts.py", "            ledger.requeue(reservation)\n            continue", "            ledger.end(reservation)\n            continue"),
    Mutation("an erring worker stays for ever", "verdicts.py", '            ledger.destroy(worker, f"failed, and released now: {worker.error}")', "            pass"),
    # Fleets and restarts
    Mutation("strangers are left alone", "fleet_news.py", "if age_s >= limits.LIST_LAG_S:", "if False:"),
    Mutation("strangers go without a grace", "fleet_news.py", "if age_s >= limits.LIST_LAG_S:", "if age_s >= 0:"),
    Mutation("an exit is not heard", "fleet_news.py", "    fail(ledger, worker, detail, dead=True)", "    pass"),
    Mutation("one list is believed over reports", "fleet_news.py", "if worker.state_since >= asked_at - limits.LIST_LAG_S or _lives(worker, asked_at):", "if worker.state_since >= asked_at:"),
    Mutation("a restart forgets sessions", "operators.py", "    ledger.hold(worker, reservation)\n", "    del ledger.reservations[record.request_idx]\n"),
    Mutation("a restart trusts silence", "operators.py", "worker.unheard = worker.suspect = True", "worker.unheard = True"),
    Mutation("a deleted endpoint keeps its waiters", "operators.py", '    routing.refuse_all(ledger, pool, f"endpoint {pool.name} is being deleted")\n', ""),
)  # fmt: skip
