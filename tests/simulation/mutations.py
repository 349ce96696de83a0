"""Bugs to plant in the core: each a change of its syntax tree that a checker or an invariant must notice.

A change names a function of the core and a piece of its code: statements, or an expression. It is found by comparing
syntax trees, so comments, formatting and the place of the function do not matter; renaming what stands in it does, and
then it fails loudly (`plants.Unplantable`). Where two functions of the core have one name, the module goes before it
("routing:ask").

`python -m tests.simulation.mutants` plants each and hunts until it is caught, 500 seeds at most; what caught it is kept in
caught.json, which the tests and docs/simulation.md go by.
"""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """In ``function`` of the core, ``old`` occurs once and becomes ``new`` ("": nothing)."""

    function: str
    old: str
    new: str


class Mutation(NamedTuple):
    """A bug."""

    name: str
    changes: tuple[Change, ...]


def _bug(name: str, function: str, old: str, new: str = "") -> Mutation:
    return Mutation(name, (Change(function, old, new),))


MUTATIONS: tuple[Mutation, ...] = (
    # Routing
    _bug("last come, first served", "WaitingLine.add", "heapq.heappush(self.order, reservation.request_idx)", "heapq.heappush(self.order, -reservation.request_idx)"),
    _bug("a waiter that left is kept", "clients:gone", "state.end(reservation)"),
    _bug("a silent waiter is never forgotten", "hold_ended", "state.timers.set(state.now + limits.POLL_GRACE_S, Timer.WAITER, request_idx)"),
    _bug("a grant never expires", "grant_due", "if state.now < reservation.expires_at: return", "return"),
    _bug("a stopped endpoint grants", "assign", "endpoint.parameters.state is EndpointState.STOPPED", "False"),
    _bug("after an expired grant the worker may be granted at once", "_expire", "state.doubt(worker)"),
    _bug("a waiter whose grant ran out is forgotten", "_expire", "reservation.present or answered == 0", "answered == 0"),
    _bug("a full worker is offered again", "Endpoint.takes_more", "not worker.full", "True"),
    _bug("an unresponsive worker is granted", "_share", "not worker.grantable", "worker.retire is not None"),
    _bug("a returning waiter has lost its place", "WaitingLine.set_returned", "if reservation.absent: heapq.heappush(self.order, reservation.request_idx)"),
    # Scaling
    _bug("waiters are no demand", "need", "endpoint.held_cost + urgent_cost", "endpoint.held_cost"),
    _bug("no place for each waiter", "_lacks_active", "wanted.places > endpoint.slots and not endpoint.unbounded", "False"),
    _bug("one worker too many", "_lacks_active", "wanted.places > endpoint.slots", "wanted.places >= endpoint.slots and wanted.places"),
    _bug("the cap is not kept", "scaling:_create", "endpoint.existing >= endpoint.parameters.max_workers", "False"),
    _bug("the cap forgets those who leave", "scaling:_create", "endpoint.existing", "endpoint.staying"),
    _bug("free workers are never scaled down", "scale_down", "worker.endable and _not_needed(endpoint, worker, wanted)", "False"),
    _bug("scaling down ignores the need", "scale_down", "worker.endable and _not_needed(endpoint, worker, wanted)", "worker.endable"),
    _bug("scaling down ignores unknown holds", "scale_down", "worker.endable and _not_needed(endpoint, worker, wanted)", "_not_needed(endpoint, worker, wanted)"),
    _bug("a free worker goes at once", "_idle_until", "worker.free_since + endpoint.parameters.idle_s", "worker.free_since"),
    _bug("inactive workers are never destroyed", "scale_down", "not _cold_wants(endpoint, worker, wanted)", "False"),
    _bug("a suspended endpoint scales up", "scale_up", "endpoint.parameters.state is not EndpointState.ACTIVE", "endpoint.parameters.state is EndpointState.STOPPED"),
    _bug("a suspended endpoint scales down", "scale_down", "if endpoint.parameters.state is EndpointState.SUSPENDED: return"),
    _bug("a restart has no quiet time", "Listening.started", "if with_workers: self.quiet_until = now + limits.QUIET_S"),
    _bug("a restart scales up at once", "scale_up", "endpoint.awaiting_report and state.listening.is_quiet(state.now)", "False"),
    # Reports
    _bug("late reports are believed", "reports:report", "age is ReportAge.LATE", "False"),
    _bug("a report that does not list a grant ends it", "_sessions", "[held for held in worker.held.values() if held.stage is Stage.SESSION]", "list(worker.held.values())"),
    _bug("sessions that a report lists no longer stay", "_sessions", "_not_listed(state, worker, over)"),
    _bug("unknown sessions are not adopted", "_sessions", "_adopt(state, worker, request_idx, cost)"),
    _bug("a refusal is ignored", "reports:finished", "_rejected(state, worker, held)"),
    Mutation("an unnumbered report of a worker that numbers is fresh", (Change("ReportOrder.classify", "self.numbers and not report.seq and now < max(self.numbered_at, listening.since) + limits.RESEND_S", "False"),)),
    # Failures
    _bug("an error kills a held worker", "failures:fail", "_drop_all(state, worker, cause, reason, dead=dead)", "dead = True; _drop_all(state, worker, cause, reason, dead=dead)"),
    Mutation("silence is idleness", (Change("_overdue", "not worker.trust.unresponsive", "worker.state is WorkerState.READY"), Change("_overdue", "state.set_unresponsive(worker, unresponsive=True)", ""))),
    _bug("no back-off", "Workergroup.backs_off", "now + pause_s", "now"),
    _bug("orders are not repeated", "_overdue", "_order_again(state, worker)", "worker.order.given_at = state.now"),
    _bug("a dead worker's waiter loses its place", "_drop_all", "state.requeue(reservation)", "state.end(reservation)"),
    _bug("an erring worker stays for ever", "failures:released", 'state.destroy(worker, worker.failure.cause, f"failed, and released now: {worker.failure.reason}")'),
    # Both are caught by what is so in the world; the sentences that the core gives are not read.
    Mutation("inactivity_timeout is ignored, and the sentence is another", (Change("_idle_until", "worker.free_since + endpoint.parameters.idle_s", "worker.free_since"), Change("_release", 'f"free for {idle_s:.1f} s (inactivity_timeout {endpoint.parameters.idle_s:g} s)"', 'f"idle for {idle_s:.1f} s"'))),
    _bug("a restart fails every free worker", "restored", "state.timers.set(state.listening.quiet_until, Timer.SCALE, endpoint.endpoint_id)", """
from nullworker.core.failures import fail
state.timers.set(state.listening.quiet_until, Timer.SCALE, endpoint.endpoint_id)
for worker in [worker for worker in endpoint.workers.values() if worker.state is WorkerState.READY and not worker.held]:
    fail(state, worker, Cause.FAILED_SILENT, "no report for 30 s", dead=True)
"""),
    # Fleets and restarts
    _bug("unknown instances are left running", "_unknown_instances", "age_s < limits.LIST_LAG_S", "True"),
    _bug("unknown instances are destroyed without a grace period", "_unknown_instances", "age_s < limits.LIST_LAG_S", "age_s < 0"),
    _bug("an exit is ignored", "fleet_events:exited", "fail(state, worker, Cause.FAILED_EXITED, detail, dead=True)"),
    _bug("one list is believed over reports", "_missing", "worker.state_since >= asked_at - limits.LIST_LAG_S or _lives(worker, asked_at)", "worker.state_since >= asked_at"),
    _bug("a restart forgets sessions", "_restore_reservation", "state.hold(worker, reservation)", "del state.reservations[record.request_idx]"),
    _bug("a restart trusts silence", "Trust.restored", "self.awaiting_report = self.unresponsive = True", "self.awaiting_report = True"),
    _bug("a deleted endpoint keeps its waiters", "endpoint_deleted", 'refuse_all(state, endpoint, Cause.ENDPOINT_DELETED, f"endpoint {endpoint.name} is being deleted")'),
)  # fmt: skip

#: So rare that no seed of 500 shows it in the worlds as they are drawn today. Its journal does.
SHOWN_BY_JOURNAL: tuple[Mutation, ...] = (
    _bug("a report of the process before is believed", "ReportOrder._age_by_counts", "report.loadtime_s in self.loadtimes_before", "False"),
)  # fmt: skip
