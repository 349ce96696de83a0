"""One number for all states of a world that go on alike: absolute times, ids and texts are left out of it.

Times are taken as ages, and an age beyond the last limit that anything compares it with is that limit. Requests are
told apart by their order alone, for that is all that the core compares. Workers are put in the order of what is known
of each, so that two worlds in which two workers have changed places are one.

`RULES` says of each field of the core's classes how it counts, or why it does not; the functions are generated from it,
and a test compares it with the classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import limits
from nullworker.core.events import RequestsFinished, WorkerReported
from nullworker.core.reservation import Stage
from nullworker.core.timers import Timer
from nullworker.core.worker import WorkerState
from nullworker.simulation.exhaustive.model import NUMBERS_APART
from nullworker.simulation.exhaustive.scope import FLEET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nullworker.core.reservation import Reservation
    from nullworker.simulation.exhaustive.model import Mail, Surroundings

    Ranks = dict[int, int]


# --------------------------------------------------------------------------------------- how a field counts: its code
# In these, ``{}`` is the field. ``now``, ``instance`` (what the worker truly is), and ``requests`` and ``workers`` (the
# places of ids) are there as well.

SAME = "{}"


def _age(most: float) -> str:
    """How long ago, or ``most``."""
    return f"(a if (a := now - {{}}) < {most!r} else {most!r})"


def _maybe_age(most: float) -> str:
    return "(None if {0} is None else " + _age(most).replace("{}", "{0}") + ")"


def _due(past: float) -> str:
    """In how many seconds, or ``past`` ones ago (negative) at most; None: at no time."""
    return f"(None if {{0}} is None else d if (d := {{0}} - now) > {past!r} else {past!r})"


def _no(reason: str) -> str:
    """It does not count, for this reason."""
    return f"#{reason}"


_SAME_ON_ALL_PATHS = _no("the same on all paths")
_FROM_WORKERS = _no("follows from the workers")
_FROM_RESERVATIONS = _no("follows from the reservations")
_LAST_EVENT = _no("of the last event alone")
_BY_ITSELF = _no("has rules of its own")

#: For so long it matters since when a worker is in its state: a list may be older, a boot takes too long.
_STATE_S = 2 * limits.LIST_LAG_S + 1
_IDLE_S = 20.0

RULES: dict[str, dict[str, str]] = {
    "EngineState": {
        "now": _no("all times are relative to it"),
        "event_number": _no("is only written down"),
        "out": _LAST_EVENT,
        "endpoints": _BY_ITSELF,
        "workergroups": _BY_ITSELF,
        "workers": _BY_ITSELF,
        "reservations": _BY_ITSELF,
        "timers": _BY_ITSELF,
        "next_worker_id": _no("ids are left out"),
        "begun": SAME,
        "listening": _BY_ITSELF,
        "unknown_instances": _BY_ITSELF,
        "dirty": _no("empty between two events"),
        "changed_workers": _LAST_EVENT,
        "changed_reservations": _LAST_EVENT,
        "freed": _no("empty between two events"),
    },
    "Listening": {"since": _age(limits.SILENCE_FAILS_HELD_S), "quiet_until": _due(0.0)},
    "Endpoint": {
        "endpoint_id": _SAME_ON_ALL_PATHS,
        "name": _SAME_ON_ALL_PATHS,
        "parameters": _no("what an operator made of it is the world's"),
        "line": _BY_ITSELF,
        "deleted": _no("what an operator made of it is the world's"),
        "workergroups": _SAME_ON_ALL_PATHS,
        "workers": _FROM_WORKERS,
        "counts": _FROM_WORKERS,
        "ready_perf": _FROM_WORKERS,
        "booting_perf": _FROM_WORKERS,
        "inactive_perf": _FROM_WORKERS,
        "held_cost": _FROM_WORKERS,
        "slots": _FROM_WORKERS,
        "unbounded": _FROM_WORKERS,
        "awaiting_report": _FROM_WORKERS,
        "free": "tuple([workers[i] for i in {}])",
        "idle": _no("as the free"),
        "inactive": "tuple([workers[i] for i in {}])",
        "partly_free": _no("follows from the workers, but for entries that are out of date"),
        "scale_down_at": _due(-1.0),
        "overdue_at": _due(-1.0),
    },
    "WaitingLine": dict.fromkeys(
        [
            "target_queue_time_s",
            "waiting",
            "active_count",
            "active_cost",
            "overdue_count",
            "overdue_cost",
            "in_time",
            "overdue_next",
            "order",
        ],
        _FROM_RESERVATIONS,
    ),
    "Workergroup": {
        "spec": _SAME_ON_ALL_PATHS,
        "deleted": _SAME_ON_ALL_PATHS,
        "workers": _FROM_WORKERS,
        "booting": _FROM_WORKERS,
        "most_sessions_seen": SAME,
        "failures": SAME,
        "failed_at": _age(limits.BACKOFF_MAX_S),
        "next_try_at": _due(0.0),
        "unable_since": _no("it is compared between two workergroups, and the world has one"),
        "last_error": _no("a text"),
        "is_short": _no("is only shown"),
        "ready_since": _maybe_age(limits.PROVEN_AFTER_S),
    },
    "Worker": {
        "worker_id": _no("ids are left out"),
        "workergroup": _SAME_ON_ALL_PATHS,
        "state": SAME,
        "state_since": (
            f"(a if (a := now - {{}}) < (most := {limits.CREATE_UNKNOWN_S} if o.state is ASKED else {_STATE_S!r})"
            " else most)"
        ),
        "trust": _BY_ITSELF,
        "owned": _SAME_ON_ALL_PATHS,
        "url": _SAME_ON_ALL_PATHS,
        "perf": SAME,
        "held": "tuple([requests[i] for i in {}])",
        "held_cost": _no("follows from what is held"),
        "grant_count": _no("follows from what is held"),
        "occupancy": SAME,
        "refusals": SAME,
        "retire": SAME,
        "failure": "({0} and {0}.cause)",
        "cold_spare": SAME,
        "ready_at": _maybe_age(limits.PROVEN_AFTER_S),
        "free_since": _age(_IDLE_S),
        "proven": SAME,
        "order": _BY_ITSELF,
        "report_order": _BY_ITSELF,
        "finishes": _BY_ITSELF,
        "adoptions": _no("no world of a walk has as many sessions as are taken over at once"),
        "timer_at": _due(-1.0),
        "share": _no("follows from the rest"),
    },
    "FleetOrder": {
        "given_at": _age(limits.BACKOFF_MAX_S),
        "attempts": SAME,
        "retry_at": _due(-1.0),
        "answered_at": _maybe_age(limits.LIST_LAG_S + 1),
    },
    "ReportOrder": {
        "numbers": SAME,
        "seq": f"({{0}} and min(instance.boot * {NUMBERS_APART} + instance.reports - {{0}}, 9))",
        "numbered_at": _age(limits.RESEND_S),
        "made_after": _no("is used only while the report that sets it is taken in"),
        "received": "instance.received - {}",
        "listed": "({0} and tuple([requests[i] for i in {0} if i in requests]))",
        "late_reports": SAME,
        "loadtime_s": "instance.boot - {}",
        "speaks_since": _age(limits.RESEND_S),
        "loadtimes_before": "tuple([instance.boot - i for i in {}]) if {} else ()",
        "numbered_loadtime_s": "instance.boot - {}",
        "other_loadtime_s": "({0} and instance.boot - {0})",
        "other_at": f"(o.report_order.other_loadtime_s and min(now - {{}}, {limits.REPORT_LOOK_S!r}))",
    },
    "FinishLog": {
        "finished_at": (
            f"tuple([(requests[i], min(now - at, {limits.FINISHED_MEMORY_S!r}))"
            " for i, at in {0}.items() if i in requests]) if {0} else ()"
        ),
        "pending": "tuple([(requests[i], n) for i, n in {0}.items() if i in requests]) if {0} else ()",
        "pending_sessions": "tuple([(requests[i], n) for i, n in {0}.items() if i in requests]) if {0} else ()",
        # Of ends that may be told again, `_of_mail` says whether they are known.
        "told_until": "tuple([(requests[i], refused) for i, refused in {0} if i in requests]) if {0} else ()",
        "told_before": "tuple([(requests[i], refused) for i, refused in {0} if i in requests]) if {0} else ()",
        "seen_attempts": "tuple([requests[i] for i, _ in {0} if i in requests]) if {0} else ()",
    },
    "Trust": {
        "reported_at": _age(limits.SILENCE_FAILS_HELD_S),
        "unresponsive": SAME,
        "may_hold_unknown_until": _due(-limits.RESEND_S),
        "reports_wanted": "o.trust.may_hold_unknown_until is not None and {}",
        "doubted": SAME,
        "awaiting_report": SAME,
        "told_end_at": _age(limits.SILENCE_FAILS_HELD_S),
        "refused_at": _age(limits.SILENCE_FAILS_HELD_S),
        "unplaced_at": _age(limits.SILENCE_FAILS_HELD_S),
        "refusal": "bool({})",
    },
    "Reservation": {
        "request_idx": "requests[{}]",
        "endpoint_id": _SAME_ON_ALL_PATHS,
        "cost": SAME,
        "asked_at": _age(1.0),
        "seen_at": _age(61.0),
        "replay_timeout_s": SAME,
        "stage": SAME,
        "worker_id": "workers.get({})",
        "present": SAME,
        "number_known": SAME,
        "absent": SAME,
        "unseen": SAME,
        "adopted": _no("counts for what is taken over, as `Worker.adoptions`"),
        "counted": SAME,
        "overdue": SAME,
        "granted_at": _no("a figure for texts"),
        "expires_at": _due(-1.0),
        "delivery": _BY_ITSELF,
    },
    "Delivery": {
        "count": SAME,
        "accounted": SAME,
        "accounted_before": SAME,
        "withheld": SAME,
        "maybe_earlier": SAME,
        "answered_at": _age(limits.WORKER_ANSWER_S),
        "answer_again_at": _due(-1.0),
        "received_before": "instance.received - {}",
        "restored": SAME,
        "unlisted": SAME,
        "orphan": SAME,
    },
    "UnknownInstance": {
        "since": _age(limits.LIST_LAG_S),
        "held_at": _maybe_age(limits.SILENCE_FAILS_HELD_S),
        "kept": SAME,
    },
    # What surrounds the engine
    "Instance": {
        "worker_id": _no("ids are left out"),
        "life": SAME,
        "orders": SAME,
        "sessions": "tuple([requests[i] for i in {}])",
        "late": "tuple([requests[i] for i in {}])",
        "ends": "tuple([(requests[end[0]], end[1]) for end in {}])",
        "received": _no("is relative to what the engine knows of it"),
        "reports": _no("is relative to what the engine knows of it"),
        "boot": _no("is relative to what the engine knows of it"),
        "error": SAME,
        "erred": SAME,
        "announced": SAME,
        "made_at": _age(_STATE_S),
        "ordered_at": _no("counts while the engine asks for it, which has the same time in its own table"),
        "free_since": _age(_IDLE_S),
        "heard_at": _age(limits.SILENCE_FAILS_HELD_S),
        "heard": SAME,
        "numbered_at": _age(limits.RESEND_S),
        "newest": f"({{0}} and min(o.boot * {NUMBERS_APART} + o.reports - {{0}}, 9))",
        "listed": "tuple([requests[i] for i in {} if i in o.sessions])",
        "ending_at": _age(2.0),
    },
    "Client": {
        "request_idx": "requests[{}]",
        "stage": SAME,
        "knows_number": SAME,
        "worker_id": "workers.get({})",
        "usable_until": _due(-1.0),
        "given_at": _age(61.0),
    },
}
_PARTS = {
    "Worker": {"trust": "Trust", "order": "FleetOrder", "report_order": "ReportOrder", "finishes": "FinishLog"},
    "Reservation": {"delivery": "Delivery"},
    "EngineState": {"listening": "Listening"},
}


def _code(name: str, owner: str) -> list[str]:
    """The code of each field of a class that counts, for an object that ``owner`` is the name of."""
    found = []
    for field, rule in RULES[name].items():
        part = _PARTS.get(name, {}).get(field)
        if part is not None:
            found += _code(part, f"{owner}.{field}")
        elif not rule.startswith("#"):
            found.append(rule.replace("{0}", "{}").replace("{}", f"{owner}.{field}"))
    return found


def _generated(name: str) -> Callable[..., tuple[Any, ...]]:
    made: dict[str, Any] = {"ASKED": WorkerState.ASKED}
    exec(f"def values(o, now, requests, workers, instance):\n    return ({', '.join(_code(name, 'o'))},)", made)  # noqa: S102 - of `RULES`
    values: Callable[..., tuple[Any, ...]] = made["values"]
    return values


_of_state = _generated("EngineState")
_of_endpoint = _generated("Endpoint")
_of_workergroup = _generated("Workergroup")
_of_worker = _generated("Worker")
_of_reservation = _generated("Reservation")
_of_unknown = _generated("UnknownInstance")
_of_instance = _generated("Instance")
_of_client = _generated("Client")


# ------------------------------------------------------------------------------------------------------------ a world


def fingerprint(world: Surroundings) -> int:
    """The world's number; 64 bits, of this process alone."""
    state, now, instances = world.engine.state, world.now, world.instances
    known, unknown = state.workers, state.unknown_instances
    requests = {idx: rank for rank, idx in enumerate(sorted(_requests(world)))}
    local = []
    ids = known.keys() | instances.keys()
    if unknown:
        ids |= {key[1] for key in unknown}
    for worker_id in ids:
        worker, instance = known.get(worker_id), instances.get(worker_id) or _NONE
        unlisted = unknown.get((FLEET, worker_id)) if unknown else None
        values = (
            None if worker is None else _of_worker(worker, now, requests, None, instance),
            None if instance is _NONE else _of_instance(instance, now, requests, None, None),
            None if unlisted is None else _of_unknown(unlisted, now, None, None, None),
        )
        local.append((hash(values), worker_id))
    local.sort()
    workers = {worker_id: rank for rank, (_, worker_id) in enumerate(local)}
    return hash(
        (
            *[number for number, _ in local],
            *[
                _of_reservation(r, now, requests, workers, instances.get(r.worker_id, _NONE))
                for r in _reservations(world)
            ],
            *[_of_client(client, now, requests, workers, None) for client in world.clients.values()],
            *[_of_mail(mail, world, now, workers, requests) for mail in world.mail],
            *[_of_endpoint(endpoint, now, requests, workers, None) for endpoint in state.endpoints.values()],
            *[_of_workergroup(group, now, None, None, None) for group in state.workergroups.values()],
            *_of_state(state, now, None, None, None),
            *sorted({entry[0] - now for entry in state.timers.entries() if entry[2] is Timer.SCALE and entry[0] > now}),
            *_of_world(world, now, workers, requests),
        )
    )


def _of_world(world: Surroundings, now: float, workers: Ranks, requests: Ranks) -> tuple[Any, ...]:
    return (
        world.newcomers,
        world.faults,
        world.calm,
        world.put,
        min(now - world.restarted_at, limits.QUIET_S),
        min(now - world.started_at, 1.0),
        max(0.0, world.pause_until - now),
        min(now - world.failed_at, limits.BACKOFF_MAX_S),
        tuple([(requests[i], workers.get(w)) for i, w in world.given if i in requests]) if world.given else (),
    )


def _requests(world: Surroundings) -> set[int]:
    """Every request that anything but a memory of what is over knows of."""
    state = world.engine.state
    found = {*state.reservations, *world.clients}
    for worker in state.workers.values():
        if worker.held:
            found.update(worker.held)
    for instance in world.instances.values():
        if instance.sessions:
            found.update(instance.sessions)
        if instance.ends:
            found.update([end[0] for end in instance.ends])
    for mail in world.mail:
        event = mail.event
        if isinstance(event, WorkerReported):
            found.update(event.request_idxs)
        elif isinstance(event, RequestsFinished):
            found.update([request.request_idx for request in event.requests])
    return found


def _reservations(world: Surroundings) -> list[Reservation]:
    state = world.engine.state
    found = list(state.reservations.values())
    for worker in state.workers.values():
        found.extend([held for held in worker.held.values() if held.delivery.orphan])
    if len(found) > 1:
        found.sort(key=lambda reservation: reservation.request_idx)
    return found


def _of_mail(mail: Mail, world: Surroundings, now: float, workers: Ranks, requests: Ranks) -> tuple[Any, ...]:
    event, instance = mail.event, world.instances.get(mail.worker_id, _NONE)
    head = (workers.get(mail.worker_id), min(now - mail.made_at, limits.RESEND_S), mail.delivered)
    if mail.worker_id and instance is _NONE:
        return (None, *head[1:])  # what it says of one that is gone changes nothing
    if isinstance(event, WorkerReported):
        return (
            *head,
            tuple([requests[idx] for idx in event.request_idxs]),
            instance.received - event.received,
            instance.boot * NUMBERS_APART + instance.reports - mail.number,
            event.seq > 0,
            event.error,
        )
    if isinstance(event, RequestsFinished):
        worker = world.engine.state.workers.get(event.worker_id)
        knows: Any = (lambda _: False) if worker is None else worker.finishes.was_told
        return (*head, tuple([(requests[end.request_idx], end.status, knows(end)) for end in event.requests]))
    shown = getattr(event, "instances", ())
    return (*head, *sorted([(workers.get(i, -1), state) for i, state in shown]))


class _NoInstance:
    """Stands for an instance that is not there."""

    boot = reports = received = 0


_NONE: Any = _NoInstance()


# ---------------------------------------------------------------------------------------------------------- reminders


def live_reminders(world: Surroundings) -> Iterator[float]:
    """When the engine's reminders lead to something; the others are looked at and thrown away."""
    state = world.engine.state
    for when, _, kind, key in state.timers.entries():
        if kind is Timer.WORKER:
            worker = state.workers.get(key)
            if worker is not None and worker.timer_at == when:
                yield when
        elif kind is Timer.SCALE:
            if when > world.now:
                yield when
        elif kind is Timer.SCALE_DOWN:
            if key in state.endpoints and state.endpoints[key].scale_down_at == when:
                yield when
        elif kind is Timer.OVERDUE:
            if key in state.endpoints and state.endpoints[key].overdue_at == when:
                yield when
        elif (reservation := state.reservations.get(key)) is not None:
            yield from _of_request(reservation, kind, when)


def _of_request(reservation: Reservation, kind: Timer, when: float) -> Iterator[float]:
    if kind is Timer.WAITER:
        if reservation.stage is Stage.WAITING and not reservation.present:
            lasts_s = reservation.replay_timeout_s if reservation.absent else limits.POLL_GRACE_S
            yield max(when, reservation.seen_at + lasts_s)
    elif reservation.stage is Stage.GRANTED and when in (
        reservation.expires_at,
        reservation.delivery.answer_again_at,
    ):
        yield when
