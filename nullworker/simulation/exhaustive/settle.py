"""The faults end: what must come in the end from any state, whatever has happened before.

Messages arrive, orders are carried out, workers report each ten seconds, clients go on asking, use what they get and
end it. Then every client is served (P3), surplus workers go and none comes back (P5, P12), what runs is what is known
(P9, P10), and the tables are empty (P14). What happens follows from the state alone, so that a state from which it was
followed once need not be followed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.commands import Create, Destroy, Start, Stop
from nullworker.core.events import TimePassed
from nullworker.simulation.exhaustive import model
from nullworker.simulation.exhaustive.fingerprint import fingerprint
from nullworker.simulation.exhaustive.moves import apply, may_expire
from nullworker.simulation.exhaustive.promises import Broken
from nullworker.simulation.exhaustive.scope import DELETED

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.exhaustive.world import World

ROUND_S = 10.0
#: Rounds until all is at rest: a creation of which nothing is known is given up after ten minutes, a list is believed
#: after one, and a silent worker after five.
ROUNDS_MAX = 120
#: So many rounds in a row without an order, and it is at rest.
QUIET_ROUNDS = 3
TRIES = 4


def settle(world: World, settled: set[int]) -> int:
    """Lets all come to rest; the world is another one then. Returns how many moves that took.

    Args:
        world: where the faults end.
        settled: states from which it is known to come to rest; those on the way are added.

    Raises:
        Broken: it does not, or not to where it must.
    """
    world.faults = world.newcomers = 0
    world.calm = False
    if world.put not in ("", "stopped", DELETED):
        apply(world, ("put", ""))
    passed: list[int] = []
    orders = _Orders()
    creates_max = 2 * len(world.clients) + world.scope.workers + world.endpoint.cold_workers
    quiet = 0
    for _ in range(ROUNDS_MAX):
        key = fingerprint(world)
        if key in settled:
            settled.update(passed)
            return orders.moves
        passed.append(key)
        orders_before = orders.all
        _round(world, orders)
        if orders.creates > creates_max:
            raise Broken(
                "P12", f"{orders.creates} workers are created after the faults, for {len(world.clients)} clients"
            )
        unrest = _unrest(world)
        quiet = quiet + 1 if unrest is None and orders.all == orders_before else 0
        if quiet == QUIET_ROUNDS:
            settled.update(passed)
            return orders.moves
    promise, message = _unrest(world) or ("P12", "orders are given without end")
    raise Broken(promise, f"{ROUNDS_MAX * ROUND_S:g} s after the faults {message}")


class _Orders:
    """Counts moves, and what the engine orders."""

    def __init__(self) -> None:
        self.moves = self.creates = self.all = self._event = 0

    def count(self, world: World) -> None:
        """The last move, and what was ordered at its event, unless that was counted."""
        self.moves += 1
        number, self._event = self._event, world.engine.state.event_number
        if number == self._event:
            return
        for command in world.engine.state.out:
            if isinstance(command, (Create, Start, Stop, Destroy)):
                self.all += 1
                self.creates += isinstance(command, Create)


def _round(world: World, orders: _Orders) -> None:
    """Ten seconds, in which all do what they have to do."""

    def do(*move: object) -> None:
        apply(world, move)
        orders.count(world)
        _carry_out(world, orders)

    while world.mail:
        do("mail", 0)
    _carry_out(world, orders)
    for idx in [client.request_idx for client in world.clients.values() if client.stage is model.HOLDING]:
        do("finish", idx)
    for instance in list(world.instances.values()):
        for idx in instance.sessions:
            if may_expire(world, idx):
                do("expire", idx, instance.worker_id)
    for _ in range(TRIES):
        _all_report(world, do)
        for idx in list(world.clients):
            stage = world.clients[idx].stage if idx in world.clients else ""
            if stage is model.BETWEEN:
                do("poll", idx)
            elif stage is model.GOING:
                do("use", idx)
        if not any(client.stage is model.GOING for client in world.clients.values()):
            break
    _all_report(world, do)
    do("list")
    _pass(world, world.now + ROUND_S, orders)


def _carry_out(world: World, orders: _Orders) -> None:
    while (busy := next((i.worker_id for i in world.instances.values() if i.orders), None)) is not None:
        apply(world, ("done", busy))
        orders.count(world)


def _all_report(world: World, do: Callable[..., None]) -> None:
    for worker_id in list(world.instances):
        if worker_id in world.instances and world.instances[worker_id].ends:
            _report(world, worker_id, "tell", do)
        _report(world, worker_id, "report" if world.scope.numbered else "beat", do)


def _report(world: World, worker_id: int, what: str, do: Callable[..., None]) -> None:
    instance = world.instances.get(worker_id)
    if instance is not None and instance.life in (model.BOOTING, model.READY):
        do(what, worker_id)


def _pass(world: World, until: float, orders: _Orders) -> None:
    engine = world.engine
    number = engine.state.event_number
    while (due := engine.wake_at()) is not None and due <= until:
        if engine.state.event_number > number + 1_000:
            raise Broken("P12", "the engine asks to be woken a thousand times in ten seconds")
        world.now = max(world.now, due)
        world.handle(TimePassed())
        orders.count(world)
        _carry_out(world, orders)
    world.now = until


def _unrest(world: World) -> tuple[str, str] | None:
    """What is not as it must be at rest: the promise, and the end of a sentence; None: all is."""
    state, stopped = world.engine.state, world.put == "stopped"
    if world.clients and not stopped:
        client = next(iter(world.clients.values()))
        return "P3", f"request {client.request_idx} is not served: it is {client.stage}"
    if left := sorted(state.reservations.keys() - world.clients.keys()):
        return "P14", f"requests {left} are left without a client"
    if state.unknown_instances:
        return "P9", f"unknown instances {sorted(state.unknown_instances)} are left"
    there, known = sorted(world.instances), sorted(state.workers)
    if there != known:
        return "P9", f"workers {known} are known, and {there} are there"
    running = [i.worker_id for i in world.instances.values() if i.life in (model.BOOTING, model.READY)]
    floor = 0 if world.put else world.scope.floor
    total = len(known) if stopped else 0 if world.put else max(floor, world.endpoint.cold_workers)
    if len(running) != floor or len(known) != total:
        return "P5", f"there are workers {known} without demand, of which {running} run; {floor} of {total} are to run"
    if world.put == DELETED and state.endpoints:
        return "P14", "the endpoint that was deleted is left"
    if any(worker.trust.unresponsive or worker.trust.may_hold_unknown for worker in state.workers.values()):
        return "P10", "a worker is not trusted"
    lines = [endpoint.line for endpoint in state.endpoints.values()]
    if not stopped and any(line.waiting or line.in_time or line.overdue_next or line.order for line in lines):
        return "P14", "the waiting line is not empty"
    if len(state.timers) > 4 * (len(known) + len(world.clients)) + 6:
        return "P14", f"{len(state.timers)} reminders are left for {len(known)} workers"
    return None
