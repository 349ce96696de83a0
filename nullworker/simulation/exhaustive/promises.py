"""The promises, looked at after each event, against what truly is in the small world.

`docs/promises.md` has them in full. Those that speak of what comes in the end (P3, P5, P9, P10, P14) are in `settle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Create, Destroy, Grant, Note, Start, Stop
from nullworker.core.reservation import Stage
from nullworker.core.worker import ACTIVE
from nullworker.simulation.exhaustive import model
from nullworker.simulation.exhaustive.scope import DELETED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.core.commands import Command
    from nullworker.core.events import Event
    from nullworker.simulation.exhaustive.model import Instance, Surroundings

#: A worker that is silent for so long is taken for dead, whatever it holds.
DEAD_S = limits.SILENCE_FAILS_HELD_S
SAME_ORDER_S = 1.0


class Broken(AssertionError):  # noqa: N818 - it reads as what it is
    """A promise is broken in a small world; ``promise`` is its number."""

    def __init__(self, promise: str, message: str) -> None:
        super().__init__(f"{promise}: {message}")
        self.promise = promise
        self.message = message


def _silent_s(world: Surroundings, instance: Instance) -> float:
    return world.now - max(instance.heard_at, instance.made_at)


# ------------------------------------------------------------------------------------------------------------- grants


def granted(world: Surroundings, event: Event, grant: Grant, decided: Sequence[Command]) -> None:
    """P1, P5, P7 and P11, of one grant."""
    request_idx, worker_id = grant.request_idx, grant.worker_id
    instance = world.instances.get(worker_id)
    if (
        instance is None
        or instance.life in (model.ABSENT, model.STOPPED)
        or (instance.life is model.ENDED and instance.announced)
    ):
        raise Broken("P1", f"request {request_idx} is given worker {worker_id}, which is not there")
    again = request_idx in instance.sessions
    if not instance.heard and not again and (request_idx, worker_id) not in world.given:
        raise Broken("P11", f"request {request_idx} is given worker {worker_id}, which this engine never heard")
    if world.put in ("stopped", DELETED) and not again and grant.cause is Cause.FIRST_IN_LINE:
        raise Broken("P5", f"request {request_idx} is given worker {worker_id} while its endpoint is {world.put}")
    others = [idx for idx in instance.sessions if idx != request_idx and idx not in instance.late]
    others += [
        client.request_idx
        for client in world.clients.values()
        if client.stage is model.GOING
        and client.worker_id == worker_id
        and client.request_idx != request_idx
        and client.usable_until > world.now
    ]
    if others and world.scope.occupancy is not None:
        raise Broken("P1", f"worker {worker_id} is given to request {request_idx} while it holds {others}")
    for other in world.instances.values():
        if other.worker_id != worker_id and _has(world, other, request_idx):
            raise Broken("P1", f"request {request_idx} is given worker {worker_id}, and holds worker {other.worker_id}")
    if not (isinstance(event, events.Asked) and event.request_idx == request_idx):
        _in_order(world, grant, decided)  # else it may be answered with what was kept for it between two polls


def _has(world: Surroundings, instance: Instance, request_idx: int) -> bool:
    """Whether the request has a session there that nothing refutes."""
    if request_idx not in instance.sessions or request_idx in instance.late:
        return False
    client = world.clients.get(request_idx)
    ran_out = client is None or world.now >= client.given_at + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
    if ran_out and request_idx not in instance.listed:
        return False  # it ran out without a session, as far as the engine was told
    # The unmodified worker refuses a second session of a request: the first then stays unused.
    holds = world.scope.numbered or (client is not None and client.stage is model.HOLDING)
    return holds and not instance.erred and _silent_s(world, instance) < DEAD_S


def _in_order(world: Surroundings, grant: Grant, decided: Sequence[Command]) -> None:
    client = world.clients.get(grant.request_idx)
    if client is None or client.worker_id:
        return  # one that was given a worker before has its own place
    for earlier in world.clients.values():
        if (
            earlier.request_idx < grant.request_idx
            and earlier.stage is model.CALLING
            and (not earlier.worker_id or world.now >= earlier.given_at + limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
            and not any(isinstance(c, Grant) and c.request_idx == earlier.request_idx for c in decided)
        ):
            raise Broken("P7", f"request {grant.request_idx} is served before {earlier.request_idx}")


# ----------------------------------------------------------------------------------------------- creations and ends


def created(world: Surroundings, event: Event, create: Create) -> None:
    """P4, P5, P6, P11 and P12, of one creation."""
    worker_id = create.worker_id
    if worker_id in world.instances:
        return  # the same order again
    if world.put in _NONE_ARE_MADE:
        raise Broken("P5", f"worker {worker_id} is created while its endpoint is {world.put}: {create.reason}")
    # One that its fleet has not made in ten minutes, and does not list, is given up; if it comes, it is unknown.
    known = world.engine.state.workers
    there = [
        i
        for i in world.instances.values()
        if (i.ending_at < 0 or i.worker_id in known)
        and (i.life is not model.ABSENT or "create" in i.orders)
        and i.worker_id != model.UNKNOWN_ID
    ]
    most = world.endpoint.max_workers
    if len(there) + 1 > most:
        raise Broken("P6", f"worker {worker_id} is the {len(there) + 1}th, and max_workers is {most}")
    if world.now < world.restarted_at + limits.QUIET_S and not isinstance(event, events.Restored):
        for i in there:
            if i.life is model.READY and not i.heard and known[i.worker_id].state in ACTIVE:
                raise Broken("P11", f"worker {worker_id} is created before worker {i.worker_id} had time to report")
    if world.now < world.pause_until:
        raise Broken(
            "P12", f"worker {worker_id} is created {world.pause_until - world.now:g} s before its pause is over"
        )
    if world.calm and world.scope.is_exact:
        staying = [i for i in there if i.ending_at < 0]
        ending = sum(bool(i.ends) for i in staying)
        if len(staying) + 1 > len(world.clients) + ending:
            raise Broken("P4", f"worker {worker_id} is the {len(staying) + 1}th for {len(world.clients)} clients")


def started(world: Surroundings, event: Event, start: Start) -> None:
    """P5, of one start."""
    if world.put in _NONE_ARE_MADE and not isinstance(event, events.Restored):
        raise Broken("P5", f"worker {start.worker_id} is started while its endpoint is {world.put}: {start.reason}")


#: What an operator made of an endpoint that gets no workers.
_NONE_ARE_MADE = frozenset({"suspended", "stopped", DELETED})
#: Reasons of scaling; those that an operator gives do not wait for `inactivity_timeout`.
_SCALES_DOWN = frozenset({Cause.IDLE, Cause.OVER_CAP, Cause.COLD_RESERVE})
_AT_ONCE = frozenset(
    {Cause.OVER_CAP, Cause.COLD_RESERVE, Cause.ENDPOINT_STOPPED, Cause.ENDPOINT_DELETED, Cause.UPDATED}
)


def ended(world: Surroundings, event: Event, command: Stop | Destroy) -> None:
    """P2, P5, P11 and P12, of one stop or destroy."""
    instance = world.instances.get(command.worker_id)
    if instance is None:
        return
    verb = type(command).__name__.lower()
    alive = instance.life in (model.BOOTING, model.READY)
    silent_s = _silent_s(world, instance)
    what = f"{verb} of worker {instance.worker_id}"
    by_force = isinstance(event, events.EndpointDeleted) and event.force
    if alive and silent_s < DEAD_S and instance.ending_at < 0 and not by_force:
        holds = [idx for idx in instance.sessions if idx not in instance.late]
        if holds:
            raise Broken("P2", f"{what}, which holds {holds}: {command.reason}")
        going = [c.request_idx for c in world.clients.values() if _is_going_to(world, c, instance)]
        if going:
            raise Broken("P2", f"{what}, which is granted to {going}: {command.reason}")
    if (
        world.now - instance.ending_at < SAME_ORDER_S
        and instance.ending_at > world.started_at
        and instance.orders
        and instance.orders[-1] == verb
        # Each list that shows an unknown instance orders its end; here two may come at once, in truth each 30 s.
        and command.cause is not Cause.UNKNOWN_INSTANCE
    ):
        raise Broken("P12", f"{what} is ordered again after {world.now - instance.ending_at:g} s")
    if command.cause is Cause.UNKNOWN_INSTANCE and world.now - instance.made_at < limits.LIST_LAG_S:
        raise Broken("P12", f"{what}, which is unknown for {world.now - instance.made_at:g} s")
    if world.put == "suspended" and command.cause in _SCALES_DOWN:
        raise Broken("P5", f"{what} while its endpoint is suspended: {command.reason}")
    if not alive or instance.ending_at >= 0 or _may_go(world, event, instance, silent_s):
        return
    if command.cause is Cause.RESTARTED:
        return  # the engine before this one decided and wrote it down, and was killed before it gave the order
    if command.cause is Cause.FAILED_CREATE_UNKNOWN and world.now - instance.ordered_at >= limits.CREATE_UNKNOWN_S:
        return
    if isinstance(event, events.Restored) or world.now < world.restarted_at + limits.QUIET_S:
        raise Broken("P11", f"{what} in the first reporting period after a restart: {command.reason}")
    idle_s = world.endpoint.idle_s
    if command.cause is Cause.UNKNOWN_INSTANCE:
        return
    if world.now - instance.free_since < idle_s and command.cause not in _AT_ONCE:
        raise Broken(
            "P12", f"{what} after {world.now - instance.free_since:g} s, and inactivity_timeout is {idle_s:g} s"
        )


def carried_out(world: Surroundings, instance: Instance, verb: str) -> None:
    """P2, of a stop or destroy that its fleet carries out: what is held by then was given after the order."""
    holds = [idx for idx in instance.sessions if idx not in instance.late]
    if world.put == DELETED:
        return  # it grants nothing, and may have been deleted by force
    if holds and instance.life is model.READY and world.now - instance.heard_at < DEAD_S:
        holders = [world.clients[idx] for idx in holds if idx in world.clients]
        if any(holder.given_at >= instance.ending_at for holder in holders):
            raise Broken("P2", f"{verb} of worker {instance.worker_id} is carried out while it holds {holds}")


def _is_going_to(world: Surroundings, client: model.Client, instance: Instance) -> bool:
    return client.stage is model.GOING and client.worker_id == instance.worker_id and client.usable_until > world.now


def _may_go(world: Surroundings, event: Event, instance: Instance, silent_s: float) -> bool:
    """Whether something other than idleness is a reason."""
    return (
        instance.erred
        or silent_s >= limits.SILENCE_FAILS_S
        or isinstance(event, (events.InstanceFailed, events.InstanceExited, events.InstanceGone))
        or (instance.life is model.BOOTING and world.now - instance.made_at >= world.scope.workergroup.boot_timeout_s)
        or world.scope.occupancy is None  # it may have refused too often
    )


# --------------------------------------------------------------------------------------------------------- each event


def after(world: Surroundings, event: Event, decided: Sequence[Command]) -> None:
    """P3, P8, P10, P12 and P13, of one event."""
    state = world.engine.state
    kind = type(event)
    if kind is events.WaiterGone:
        reservation = state.reservations.get(event.request_idx)  # type: ignore[union-attr]  # it is a WaiterGone
        if reservation is not None and reservation.stage is Stage.WAITING:
            raise Broken("P8", f"request {reservation.request_idx} waits on after its client has gone")
    elif kind is events.InstanceFailed and event.verb == "create" and event.definite:  # type: ignore[union-attr]
        failed = world.instances.get(event.worker_id)  # type: ignore[union-attr]
        # Those that were ordered together fail together: that is one failure.
        if failed is not None and failed.made_at > world.failed_at:
            world.pause_until = world.now + 1.0
    elif kind is events.WorkerReported and not event.seq and world.scope.numbered:  # type: ignore[union-attr]
        _changes_nothing(world, event.worker_id, decided)  # type: ignore[union-attr]  # it is a WorkerReported
    number = state.event_number
    for command in decided:
        if isinstance(command, Note) and command.kind == "worker_failed":
            world.failed_at = world.now
        if not command.reason or command.event_number != number:
            raise Broken("P13", f"{type(command).__name__} gives no reason, or names another event")
    for worker_id in state.changed_workers:
        if worker_id not in state.workers:
            instance = world.instances.get(worker_id)
            unordered = instance is not None and "destroy" not in instance.orders and instance.ending_at < 0
            if unordered and not any(isinstance(c, Note) and c.kind == "worker_failed" for c in decided):
                raise Broken("P13", f"worker {worker_id} is there no longer, and nothing says why")
    if state.changed_reservations:
        for request_idx in state.changed_reservations:
            if request_idx not in state.reservations:
                client = world.clients.get(request_idx)
                if client is not None and client.stage is model.CALLING:
                    raise Broken("P7", f"request {request_idx} is forgotten by {kind.__name__} while its call is open")
    if world.calm and world.scope.is_exact:
        _enough_are_coming(world)


def _enough_are_coming(world: Surroundings) -> None:
    """P3, as long as nothing has gone wrong: each client that wants a worker has one, or one is on its way."""
    wanting = sum(client.stage is not model.BETWEEN for client in world.clients.values())
    staying = sum(instance.ending_at < 0 for instance in world.instances.values())
    if staying < min(wanting, world.endpoint.max_workers - (len(world.instances) - staying)):
        raise Broken("P3", f"{wanting} clients want a worker, and {staying} are there or on their way")


def _changes_nothing(world: Surroundings, worker_id: int, decided: Sequence[Command]) -> None:
    """P10, of a report without a number soon after one with a number: it may be older."""
    instance = world.instances.get(worker_id)
    if instance is None or world.now >= instance.numbered_at + limits.RESEND_S or world.started_at > 0:
        return
    kinds = {command.kind for command in decided if isinstance(command, Note)}
    if not kinds.isdisjoint({"session_ended", "session_adopted"}) and "worker_counts_anew" not in kinds:
        raise Broken("P10", f"a report of worker {worker_id} without a number is used: {', '.join(sorted(kinds))}")
