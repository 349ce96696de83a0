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
    _bug("after an expired grant the worker may be granted at once", "_expire", "state.doubt(worker, used_late=True)"),
    _bug("a waiter whose grant ran out is forgotten", "_expire", "reservation.present or answered == 0", "answered == 0"),
    _bug("a full worker is offered again", "Endpoint.takes_more", "not worker.full", "True"),
    _bug("an unresponsive worker is granted", "_share", "not worker.grantable", "worker.retire is not None"),
    _bug("a returning waiter has lost its place", "WaitingLine.set_returned", "if reservation.absent: heapq.heappush(self.order, reservation.request_idx)"),
    # Scaling
    _bug("a stand-in does not wait", "waits_until", "return latest if latest > state.now else None", "return None"),
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
    _bug("late reports are believed", "reports:report", "age in NOT_USED", "False"),
    _bug("a report that does not list a grant ends it", "_sessions", "[held for held in worker.held.values() if held.stage is Stage.SESSION]", "list(worker.held.values())"),
    _bug("sessions that a report lists no longer stay", "_sessions", "_not_listed(state, worker, session, numbered=bool(event.seq))"),
    _bug("unknown sessions are not adopted", "_sessions", "_adopt(state, worker, request_idx, cost)", "True"),
    _bug("a refusal is ignored", "reports:finished", "_rejected(state, worker, held)"),
    Mutation("an unnumbered report of a worker that numbers is fresh", (Change("ReportOrder.classify", "self._is_sign_of_life(report, now, listening)", "False"),)),
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

#: Bugs that others planted, without having seen the ones above: most are for unit tests to notice. docs/mutation.md says
#: what does.
HELD_OUT: tuple[Mutation, ...] = (
    # What fleets and workers say
    _bug("an old list is applied to a newer state", "_present", "if worker.state_since >= asked_at: return"),
    _bug("a list from before a change ends a worker", "_missing", "worker.state_since >= asked_at - limits.LIST_LAG_S or _lives(worker, asked_at)", "_lives(worker, asked_at)"),
    _bug("doubt is over after one report", "Trust.may_hold_until", "self.reports_wanted = 2", "self.reports_wanted = 1"),
    _bug("late reports in a row are never counted from zero again", "ReportOrder.classify", "self.received, self.late_reports, self.listed = report.received, 0, report.request_idxs", "self.received, self.listed = report.received, report.request_idxs"),
    _bug("an unknown instance's number is given again", "_unknown_instances", "state.next_worker_id = max(state.next_worker_id, worker_id + 1)"),
    # Routing
    _bug("max_queue_time is inclusive", "Endpoint.takes_more", "worker.held_cost / worker.perf_expected < self.parameters.max_queue_time", "worker.held_cost / worker.perf_expected <= self.parameters.max_queue_time"),
    _bug("the worker that is free longest serves next", "Endpoint.pick", "next(reversed(self.free.values()))", "next(iter(self.free.values()))"),
    _bug("a client that leaves after its answer loses its grant at once", "clients:gone", "reservation.stage is Stage.GRANTED and reservation.delivery.count == 0", "reservation.stage is Stage.GRANTED"),
    _bug("an old reminder is kept when parameters change", "EngineState.put_endpoint", "endpoint.name, endpoint.parameters, endpoint.overdue_at = name, parameters, None", "endpoint.name, endpoint.parameters = name, parameters"),
    # Restarts
    _bug("a restored worker is not doubted", "Trust.restored", "self.may_hold_unknown_until, self.reports_wanted = now, 2"),
    _bug("an answer is written down as never sent", "recovery:reservation_record", "known.delivery.pending", "False"),
    _bug("a grant is written down as a session", "recovery:reservation_record", "known.stage is Stage.SESSION", "known.stage is not Stage.WAITING"),
    _bug("the first report that does not list a restored session ends it", "_not_listed", """
if session.delivery.restored:
    session.delivery.restored = not numbered and state.now < state.listening.since + limits.RESEND_S
    session.delivery.unlisted = True
    state.await_report(worker)
    return
"""),
    _bug("why a worker is to go is not written down", "recovery:worker_record", "known.retire", "None"),
    _bug("why a worker is to go is lost at a restart", "restored", "retire(state, retiring, record.retire)"),
    # Fleets' orders
    _bug("a destroy waits for the retry of the order before it", "FleetOrder.given", "self.given_at, self.attempts, self.retry_at, self.answered_at = now, 0, None, None", "self.given_at, self.attempts, self.answered_at = now, 0, None"),
    _bug("a stop that fails is tried for ever", "failures:_order_again", "worker.state is WorkerState.STOPPING and order.attempts < limits.STOP_ATTEMPTS_MAX", "worker.state is WorkerState.STOPPING"),
    _bug("a failed order is repeated with pauses that do not grow", "fleet_events:failed", "2.0 ** min(order.attempts, 10)", "2.0"),
    _bug("a failed order is put off for ever longer", "fleet_events:failed", "min(limits.ORDER_RETRY_MAX_S, 2.0 ** min(order.attempts, 10))", "2.0 ** min(order.attempts, 10)"),
    _bug("back-off has no limit", "Workergroup.backs_off", "min(limits.BACKOFF_MAX_S, 2.0 ** min(self.failures - 1, 30))", "2.0 ** min(self.failures - 1, 30)"),
    # Scaling
    _bug("cold_workers counts those on their way out", "_lacks_cold", "endpoint.staying", "endpoint.existing"),
    _bug("a worker that never held is idle since its creation", "_ready", "worker.ready_at = worker.free_since = state.now", "worker.ready_at = state.now; worker.free_since = worker.state_since"),
    _bug("the dearest workergroup grows", "_rank", "workergroup.price_for_perf", "-workergroup.price_for_perf"),
    _bug("a workergroup's own max_workers is ignored", "Workergroup.is_full", "self.spec.max_workers is not None and self.workers >= self.spec.max_workers", "False"),
    _bug("cold_mult is of min_load alone", "need", "parameters.cold_mult * load", "parameters.cold_mult * parameters.min_load"),
    # Time
    _bug("a clock that falls back is followed", "Engine._checked_time", "return last", "return now"),
    _bug("the engine's own sleep goes unnoticed", "Engine._checked_time", "self.state.was_absent(now)"),
)  # fmt: skip
