"""What can happen next in a small world, and its happening. Each move is one event for the engine, or none.

There are thirteen kinds: a client asks, leaves, goes to its worker, or is done; a worker reports, or its message comes
late, twice or unusable; a fleet answers a creation, or another order; an instance ends; a fleet lists what it has; an
operator changes the endpoint; the engine is killed; time passes until the engine is next to be woken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import limits
from nullworker.core.events import (
    Asked,
    Finished,
    FleetListed,
    HoldEnded,
    InstanceCreated,
    InstanceExited,
    InstanceFailed,
    InstanceGone,
    InstanceStarted,
    InstanceStopped,
    ReportRefused,
    RequestsFinished,
    TimePassed,
    WaiterGone,
    WorkerReported,
)
from nullworker.simulation.exhaustive import model, operators, promises
from nullworker.simulation.exhaustive.fingerprint import live_reminders
from nullworker.simulation.exhaustive.model import NUMBERS_APART, Client, Instance, Mail
from nullworker.simulation.exhaustive.scope import ENDPOINT, FLEET

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.exhaustive.world import World

#: A name and its arguments.
Move = tuple[Any, ...]

#: A stream makes no further message while one is under way, until it gives up waiting for its answer.
NUMBERED_TIMEOUT_S = 5.0
FRAMEWORK_TIMEOUT_S = 34.0  # three tries of 10 s, 2 s apart
#: A message arrives within this, or not at all: a numbered one while its answer is waited for, others as long as they
#: are sent again.
MAIL_MAX_S = {True: NUMBERED_TIMEOUT_S, False: limits.RESEND_S}
#: A session that its client does not keep alive ends after this.
LIFETIME_S = 60.0
#: An engine may ask so often to be woken at a time that has come.
AT_ONCE_MAX = 100
#: A list may miss what is newer.
LIST_MISSES_S = limits.LIST_LAG_S - 10.0


# ------------------------------------------------------------------------------------------------------ what can happen


def moves(world: World) -> list[Move]:
    """All that can happen next, always in the same order."""
    scope = world.scope
    faults = scope.faults if world.faults > 0 else ()
    found: list[Move] = []
    if world.newcomers:
        found.append(("ask",))
    for client in world.clients.values():
        _of_client(client, faults, found)
    for instance in world.instances.values():
        _of_instance(world, instance, faults, found)
    for number, mail in enumerate(world.mail):
        found.append(("mail", number))
        if not mail.delivered:
            found.append(("mail_kept", number))
    if "list" in scope.faults or "exit" in scope.faults or "create" in scope.faults:
        found.append(("list",))
    if "list" in faults:
        if len(world.mail) < scope.mail_max:
            found.append(("list_late",))
        found += [
            ("list_without", i.worker_id)
            for i in world.instances.values()
            if i.life is not model.ABSENT and world.now - i.made_at < LIST_MISSES_S
        ]
    if "kill" in faults:
        found += [
            ("kill",),
            *[("kill_at", at, *move) for move in found for at in ("answers", "rows") if _is_event(move)],
        ]
    operators.possible(world, faults, found)
    if any(True for _ in live_reminders(world)):
        found.append(("wait",))
    return found


_NO_EVENT = frozenset({"finish", "expire", "vanish", "late", "ends_late", "list_late", "exit_unseen", "list"})


def _is_event(move: Move) -> bool:
    return move[0] not in _NO_EVENT


def _of_client(client: Client, faults: tuple[str, ...], found: list[Move]) -> None:
    idx, stage = client.request_idx, client.stage
    if stage is model.CALLING:
        found.append(("hold", idx))
        found.append(("leave", idx))
        return
    if stage is model.BETWEEN:
        found.append(("poll", idx))
    elif stage is model.GOING:
        found.append(("use", idx))
        if "unheard" in faults:
            found.append(("use_unheard", idx))
    else:
        found.append(("finish", idx))
    if "vanish" in faults:
        found.append(("vanish", idx))


def _of_instance(world: World, instance: Instance, faults: tuple[str, ...], found: list[Move]) -> None:
    worker_id, life = instance.worker_id, instance.life
    if instance.orders:
        verb = instance.orders[0]
        found.append(("done", worker_id))
        if verb == "create" and life is model.ABSENT:
            if "create" in faults:
                found += [("refused", worker_id), ("made_unclear", worker_id), ("not_made_unclear", worker_id)]
        elif verb != "create" and "order" in faults:
            found.append(("fails", worker_id))
    if life not in (model.BOOTING, model.READY):
        return
    _of_process(world, instance, faults, found)
    if "exit" in faults:
        found += [("exit", worker_id), ("exit_unseen", worker_id)]
    if "unusable" in faults and life is model.READY:
        found.append(("unusable", worker_id))


def _of_process(world: World, instance: Instance, faults: tuple[str, ...], found: list[Move]) -> None:
    scope, worker_id = world.scope, instance.worker_id
    may_be_late = "late" in faults and len(world.mail) < scope.mail_max
    own_waits, framework_waits = _under_way(world, worker_id)
    says = []
    if instance.ends and not own_waits:
        says.append(("tell", "ends_late"))
    if scope.numbered and not instance.ends and not own_waits:
        says.append(("report", "late"))
    if not framework_waits if scope.heartbeats else not (scope.numbered or own_waits):
        says.append(("beat", "beat_late"))
    for prompt, late in says:
        found.append((prompt, worker_id))
        if may_be_late:
            found.append((late, worker_id))
    if not own_waits and not (scope.numbered and instance.ends):
        _of_error(instance, faults, found)
    found += [("expire", idx, worker_id) for idx in instance.sessions if may_expire(world, idx)]


def _under_way(world: World, worker_id: int) -> tuple[bool, bool]:
    """Whether a message of the worker's own stream, and one of the framework's beside it, is waited for.

    The streams do not wait for each other, so that their messages overtake each other. Without numbers there is one.
    """
    own = framework = False
    for mail in world.mail:
        if mail.worker_id == worker_id and not mail.delivered:
            beside = world.scope.heartbeats and isinstance(mail.event, WorkerReported) and not mail.event.seq
            waits_s = NUMBERED_TIMEOUT_S if world.scope.numbered and not beside else FRAMEWORK_TIMEOUT_S
            waits = world.now - mail.made_at < waits_s
            own, framework = own or (waits and not beside), framework or (waits and beside)
    return own, framework


def _of_error(instance: Instance, faults: tuple[str, ...], found: list[Move]) -> None:
    if instance.error:
        found.append(("well", instance.worker_id))
    elif "error" in faults:
        found.append(("error", instance.worker_id))


def may_expire(world: World, idx: int) -> bool:
    """Whether a session may end by itself: its client has gone, or has not come again for a session's lifetime."""
    client = world.clients.get(idx)
    return client is None or (client.stage is not model.HOLDING and world.now >= client.given_at + LIFETIME_S)


# ------------------------------------------------------------------------------------------------------- its happening


def apply(world: World, move: Move) -> None:
    """The move happens.

    Raises:
        Broken: a promise does not hold after it.
    """
    _DO[move[0]](world, *move[1:])


def _ask(world: World) -> None:
    idx, world.next_request = world.next_request, world.next_request + 1
    world.newcomers -= 1
    world.set_client(Client(idx, model.CALLING))
    world.handle(Asked(ENDPOINT, idx, world.scope.cost))


def _poll(world: World, idx: int) -> None:
    world.set_client(world.clients[idx]._replace(stage=model.CALLING))
    world.handle(Asked(ENDPOINT, idx, world.scope.cost))


def _hold(world: World, idx: int) -> None:
    world.set_client(world.clients[idx]._replace(stage=model.BETWEEN, knows_number=True))
    world.handle(HoldEnded(idx))


def _leave(world: World, idx: int) -> None:
    world.without_client(idx)
    world.handle(WaiterGone(idx))


def _vanish(world: World, idx: int) -> None:
    world.fault()
    world.without_client(idx)


def _use(world: World, idx: int, *, heard: bool = True) -> None:
    """The client arrives at its worker, which takes it or refuses it; one that is refused asks again at once."""
    client = world.clients[idx]
    instance = world.instances.get(client.worker_id)
    taken = instance is not None and instance.life is model.READY and _serve(world, client, instance)
    if not heard:
        world.set_client(client._replace(stage=model.BETWEEN))
    elif taken:
        world.set_client(client._replace(stage=model.HOLDING))
    else:
        _poll(world, idx)


def _serve(world: World, client: Client, instance: Instance) -> bool:
    numbered, idx = world.scope.numbered, client.request_idx
    if numbered and idx in instance.sessions:
        return True
    late = world.now > client.usable_until
    if late and numbered:
        return False
    received = instance.received + 1
    if instance.sessions:
        world.seen.add("refused by its worker")
        ends = (*instance.ends, (idx, "Rejected", float(instance.boot * 1000 + received)))
        world.set_instance(instance._replace(received=received, ends=ends))
        return False
    world.seen.add("a session with an old grant" if late else "a session")
    lates = (idx,) if late else ()
    world.set_instance(instance._replace(received=received, sessions=(idx,), late=lates))
    return True


def _use_unheard(world: World, idx: int) -> None:
    world.fault()
    _use(world, idx, heard=False)


def _finish(world: World, idx: int) -> None:
    worker_id = world.clients[idx].worker_id
    world.without_client(idx)
    _expire(world, idx, worker_id)


def _expire(world: World, idx: int, worker_id: int) -> None:
    instance = world.instances.get(worker_id)
    if instance is None or idx not in instance.sessions:
        return
    world.set_instance(
        instance._replace(
            sessions=tuple([i for i in instance.sessions if i != idx]),
            late=tuple([i for i in instance.late if i != idx]),
            ends=(*instance.ends, (idx, "Success", instance.boot * 1000 + instance.received + 0.5)),
            free_since=world.now,
        )
    )


# --- reports


def _report_of(world: World, worker_id: int, *, numbered: bool) -> WorkerReported:
    """A report of the worker as it is now; one that boots is ready with it."""
    instance = world.instances[worker_id]
    life, free_since = instance.life, instance.free_since
    if life is model.BOOTING:
        life, free_since = model.READY, world.now
    reports = instance.reports + 1
    world.set_instance(instance._replace(life=life, free_since=free_since, reports=reports))
    boot, sessions = instance.boot, instance.sessions
    return WorkerReported(
        worker_id,
        "http://worker",
        True,
        "unhealthy" if instance.error else "",
        100.0,
        world.scope.cost * len(sessions),
        sessions,
        instance.received,
        boot * NUMBERS_APART + reports if numbered else 0,
        float(boot),
    )


def _heard(world: World, event: WorkerReported, number: int) -> None:
    """A report is delivered; one that is older than another that was says nothing."""
    instance, now = world.instances.get(event.worker_id), world.now
    if instance is not None and number > instance.newest:
        numbered_at, listed = now if event.seq else instance.numbered_at, event.request_idxs
        world.set_instance(
            instance._replace(heard_at=now, heard=True, newest=number, listed=listed, numbered_at=numbered_at)
        )
    world.pause_until = -1000.0


def _number(world: World, worker_id: int) -> int:
    instance = world.instances[worker_id]
    return instance.boot * NUMBERS_APART + instance.reports


def _report(world: World, worker_id: int) -> None:
    event = _report_of(world, worker_id, numbered=True)
    _heard(world, event, _number(world, worker_id))
    world.handle(event)


def _beat(world: World, worker_id: int) -> None:
    event = _report_of(world, worker_id, numbered=False)
    _heard(world, event, _number(world, worker_id))
    world.handle(event)


def _unusable(world: World, worker_id: int) -> None:
    world.fault()
    world.set_instance(world.instances[worker_id]._replace(heard_at=world.now))  # a sign of life, and no more
    world.handle(ReportRefused(worker_id, "its perf is no number"))


def _error(world: World, worker_id: int) -> None:
    world.fault()
    world.set_instance(world.instances[worker_id]._replace(error=True, erred=True))
    (_report if world.scope.numbered else _beat)(world, worker_id)


def _well(world: World, worker_id: int) -> None:
    world.set_instance(world.instances[worker_id]._replace(error=False))
    (_report if world.scope.numbered else _beat)(world, worker_id)


def _send(world: World, event: WorkerReported | RequestsFinished | FleetListed, worker_id: int = 0) -> None:
    world.fault()
    number = _number(world, worker_id) if isinstance(event, WorkerReported) else 0
    world.mail = (*world.mail, Mail(event, world.now, worker_id, number))


def _late(world: World, worker_id: int) -> None:
    _send(world, _report_of(world, worker_id, numbered=True), worker_id)


def _beat_late(world: World, worker_id: int) -> None:
    _send(world, _report_of(world, worker_id, numbered=False), worker_id)


def _ends(world: World, worker_id: int) -> RequestsFinished:
    return RequestsFinished(worker_id, tuple([Finished(*end) for end in world.instances[worker_id].ends]))


def _tell(world: World, worker_id: int) -> None:
    event = _ends(world, worker_id)
    world.set_instance(world.instances[worker_id]._replace(ends=()))
    world.handle(event)


def _ends_late(world: World, worker_id: int) -> None:
    _send(world, _ends(world, worker_id), worker_id)


def _mail(world: World, number: int, *, kept: bool = False) -> None:
    mail = world.mail[number]
    remains = (mail._replace(delivered=True),) if kept else ()
    world.mail = (*world.mail[:number], *remains, *world.mail[number + 1 :])
    event, instance = mail.event, world.instances.get(mail.worker_id)
    if isinstance(event, WorkerReported) and instance is not None:
        _heard(world, event, mail.number)
    elif isinstance(event, RequestsFinished) and instance is not None:
        told = {(end.request_idx, end.status, end.entered_at) for end in event.requests}
        world.set_instance(instance._replace(ends=tuple([end for end in instance.ends if end not in told])))
    world.seen.add(("late", type(event).__name__))
    world.handle(event)


def _mail_kept(world: World, number: int) -> None:
    _mail(world, number, kept=True)


# --- fleets


def _next_order(world: World, worker_id: int) -> tuple[Instance, str]:
    instance = world.instances[worker_id]
    instance = instance._replace(orders=instance.orders[1:])
    return instance, world.instances[worker_id].orders[0]


def _done(world: World, worker_id: int) -> None:
    instance, verb = _next_order(world, worker_id)
    if verb in ("create", "start"):
        if instance.life in (model.ABSENT, model.STOPPED) or (verb == "start" and instance.life is model.ENDED):
            instance = _booting(world, instance)
        world.set_instance(instance)
        world.handle(InstanceCreated(worker_id) if verb == "create" else InstanceStarted(worker_id))
        return
    promises.carried_out(world, instance, verb)
    for idx in instance.sessions:
        _lost(world, idx)
    if verb == "destroy":
        world.without_instance(worker_id)
        if instance.orders:
            world.set_instance(instance._replace(life=model.ABSENT, sessions=(), late=(), ends=()))
        world.handle(InstanceGone(worker_id))
        return
    world.set_instance(instance._replace(life=model.STOPPED, sessions=(), late=(), ends=()))
    world.handle(InstanceStopped(worker_id))


def _booting(world: World, instance: Instance) -> Instance:
    now = world.now
    return instance._replace(
        life=model.BOOTING, boot=instance.boot + 1, reports=0, received=0, made_at=now, heard_at=now, free_since=now,
        error=False, erred=False, announced=False, listed=(),
    )  # fmt: skip


def _lost(world: World, idx: int) -> None:
    client = world.clients.get(idx)
    if client is not None and client.stage is model.HOLDING:
        world.without_client(idx)


def _refused(world: World, worker_id: int) -> None:
    world.fault()
    instance, _ = _next_order(world, worker_id)
    world.set_instance(instance)
    world.handle(InstanceFailed(worker_id, "create", "no machine is to be had"))
    if not world.instances[worker_id].orders:
        world.without_instance(worker_id)


def _made_unclear(world: World, worker_id: int) -> None:
    world.fault()
    instance, _ = _next_order(world, worker_id)
    world.set_instance(_booting(world, instance))
    world.handle(InstanceFailed(worker_id, "create", "no answer", definite=False))


def _not_made_unclear(world: World, worker_id: int) -> None:
    world.fault()
    instance, _ = _next_order(world, worker_id)
    world.set_instance(instance)
    world.handle(InstanceFailed(worker_id, "create", "no answer", definite=False))


def _fails(world: World, worker_id: int) -> None:
    world.fault()
    instance, verb = _next_order(world, worker_id)
    world.set_instance(instance)
    world.handle(InstanceFailed(worker_id, verb, "the fleet is out of order"))


def _exit(world: World, worker_id: int, *, announced: bool = True) -> None:
    world.fault()
    instance = world.instances[worker_id]
    for idx in instance.sessions:
        _lost(world, idx)
    world.set_instance(instance._replace(life=model.ENDED, sessions=(), late=(), ends=(), announced=announced))
    if announced:
        world.handle(InstanceExited(worker_id, "exit code 1"))


def _exit_unseen(world: World, worker_id: int) -> None:
    _exit(world, worker_id, announced=False)


_SHOWN_AS = {model.BOOTING: "running", model.READY: "running", model.STOPPED: "stopped", model.ENDED: "exited"}


def _shown(world: World, without: int = 0) -> FleetListed:
    shown = [
        (i.worker_id, _SHOWN_AS[i.life])
        for i in world.instances.values()
        if i.life is not model.ABSENT and i.worker_id != without
    ]
    return FleetListed(FLEET, world.now, tuple(shown))


def _list(world: World) -> None:
    world.handle(_shown(world))


def _list_without(world: World, worker_id: int) -> None:
    world.fault()
    world.handle(_shown(world, worker_id))


def _list_late(world: World) -> None:
    _send(world, _shown(world))


# --- the engine and time


def _kill(world: World) -> None:
    world.fault()
    world.restart()


def _kill_at(world: World, at: str, *move: Any) -> None:
    world.fault()
    world.kill = at
    apply(world, move)
    world.kill = ""


def _wait(world: World) -> None:
    """Time passes until something is due that leads to something; what is due before is looked at on the way."""
    engine = world.engine
    until = min(live_reminders(world), default=world.now)
    at_once = 0
    while (due := engine.wake_at()) is not None:
        at_once = at_once + 1 if due <= world.now else 0
        if at_once > AT_ONCE_MAX:
            raise promises.Broken("P12", f"the engine asks to be woken {at_once} times without time going on")
        world.now = max(world.now, due)
        if world.mail:
            world.mail = tuple(
                [mail for mail in world.mail if world.now - mail.made_at <= MAIL_MAX_S[_is_numbered(mail)]]
            )
        world.calm = world.calm and _is_calm(world)
        number = engine.state.event_number
        world.handle(TimePassed())
        if world.engine is not engine or engine.state.out or number + 100 < engine.state.event_number:
            return
        if world.now >= until:
            return


def _is_numbered(mail: Mail) -> bool:
    return isinstance(mail.event, WorkerReported) and mail.event.seq > 0


def _is_calm(world: World) -> bool:
    """Whether nothing is overdue that a sound world would have done by now: a report, a client's next step."""
    return all(
        world.now - instance.heard_at <= limits.REPORT_PERIOD_S and not instance.ends
        for instance in world.instances.values()
    ) and all(client.stage in (model.CALLING, model.HOLDING) for client in world.clients.values())


_DO: dict[str, Callable[..., None]] = {
    "ask": _ask,
    "poll": _poll,
    "hold": _hold,
    "leave": _leave,
    "vanish": _vanish,
    "use": _use,
    "use_unheard": _use_unheard,
    "finish": _finish,
    "expire": _expire,
    "report": _report,
    "late": _late,
    "beat": _beat,
    "beat_late": _beat_late,
    "error": _error,
    "well": _well,
    "unusable": _unusable,
    "tell": _tell,
    "ends_late": _ends_late,
    "mail": _mail,
    "mail_kept": _mail_kept,
    "done": _done,
    "refused": _refused,
    "made_unclear": _made_unclear,
    "not_made_unclear": _not_made_unclear,
    "fails": _fails,
    "exit": _exit,
    "exit_unseen": _exit_unseen,
    "list": _list,
    "list_late": _list_late,
    "list_without": _list_without,
    "kill": _kill,
    "kill_at": _kill_at,
    "wait": _wait,
    **operators.DO,
}
