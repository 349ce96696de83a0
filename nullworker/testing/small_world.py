"""A small world around one engine, under a clock moved by hand: a fleet that obeys after a while, workers that truly
hold what they hold, clients that ask, hold and let go. For tests of promises and for figures, where the simulator with
all its faults would hide what is to be seen.

    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(10)
    assert world.holders() == {1: 1}       # request 1 truly holds worker 1
    world.close(1)
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from nullworker.core import commands, events, recovery
from nullworker.core.engine import Engine
from nullworker.core.parameters import WorkergroupSpec
from nullworker.testing.clock import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core.commands import Command
    from nullworker.core.events import Event
    from nullworker.core.parameters import Parameters

_C = TypeVar("_C")

ENDPOINT = 1
GROUP = 1
FLEET = "small"
HOLD_S = 8.0  # a held /route/ call is answered WAITING after this
POLL_S = 1.0  # and its client asks again after this
TICK_S = 1.0  # a client that a worker did not take asks again after this
REPORT_S = 10.0


@dataclass(slots=True)
class Box:
    """A worker as it truly is."""

    worker_id: int
    boots: int = 0
    running: bool = False
    ready: bool = False
    mute: bool = False  # it runs and does not report
    error: str = ""
    sessions: dict[int, float] = field(default_factory=dict)  # request_idx -> cost
    received: int = 0
    ours: bool = True  # made by the fleet


@dataclass(slots=True)
class Client:
    """Who asks for a worker."""

    request_idx: int
    cost: float
    asked_at: float
    held_at: float | None = None  # when it truly got its worker
    worker_id: int = 0
    refusals: int = 0
    calling: int = 0  # numbers its calls; the latest is the one that counts
    waits: bool = True


class SmallWorld(HandClock):
    """An engine with endpoint 1 and workergroup 1, and everything around it.

    Args of the constructor: ``boot_s`` from a creation to the first ready report, ``start_s`` the same for a stopped
    worker, ``order_s`` until the fleet has carried an order out, ``hop_s`` for a message from one to another,
    ``sessions_max`` what each worker takes, ``occupancy`` what the engine is told of that (None: nothing).
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        boot_s: float = 2.0,
        start_s: float = 0.5,
        order_s: float = 0.1,
        hop_s: float = 0.001,
        sessions_max: int = 1,
        occupancy: int | None = 1,
        perf: float = 100.0,
        boot_timeout_s: float = 1800.0,
    ) -> None:
        super().__init__()
        self.parameters = parameters
        self.workergroup = WorkergroupSpec(
            GROUP, ENDPOINT, FLEET, perf=perf, occupancy=occupancy, boot_timeout_s=boot_timeout_s
        )
        self.boot_s, self.start_s, self.order_s, self.hop_s = boot_s, start_s, order_s, hop_s
        self.sessions_max = sessions_max
        self.boxes: dict[int, Box] = {}
        self.clients: dict[int, Client] = {}
        #: Stops and destroys of workers that truly held something then: (worker id, reason).
        self.killed: list[tuple[int, str]] = []
        self.peak = 0  # the most instances that ever were at once
        self.creates_fail = False
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._down = False
        self._define()

    def _define(self) -> None:
        self.send(events.EndpointPut(ENDPOINT, "null", self.parameters))
        self.send(events.WorkergroupPut(self.workergroup))

    # ----------------------------------------------------------------------------------------------------------- time

    def after(self, seconds: float, deed: Callable[[], object]) -> None:
        """Has something happen in so many seconds."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._count, deed))

    def pass_time(self, seconds: float) -> list[Command]:
        """Lets ``seconds`` pass with all that happens in them; returns what the engine decided meanwhile."""
        end, before = self.now + seconds, len(self.commands)
        while True:
            wake_at = None if self._down else self.engine.wake_at()
            happens_at = self._agenda[0][0] if self._agenda else math.inf
            due = min(happens_at, math.inf if wake_at is None else wake_at)
            if due > end:
                break
            self.now = max(self.now, due)
            if happens_at <= due:
                heapq.heappop(self._agenda)[2]()
            else:
                self.send(events.TimePassed())
        self.now = end
        return self.commands[before:]

    def send(self, event: Event) -> list[Command]:
        """Lets the engine handle an event, unless it is down, and carries out what it decides."""
        if self._down:
            return []
        decided = super().send(event)
        for command in decided:
            self._carry_out(command)
        return decided

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, commands.Grant):
            self.after(self.hop_s, lambda: self._go_to_worker(command))
        elif isinstance(command, commands.Refuse) and command.request_idx in self.clients:
            self.clients[command.request_idx].waits = False
        elif isinstance(command, (commands.Create, commands.Start)):
            self.after(self.order_s, lambda: self._set_running(command))
        elif isinstance(command, (commands.Stop, commands.Destroy)):
            box = self.boxes.get(command.worker_id)
            if box is not None and box.sessions:
                self.killed.append((command.worker_id, command.reason))
            self.after(self.order_s, lambda: self._end(command))

    # ---------------------------------------------------------------------------------------------------------- fleet

    def _set_running(self, order: commands.Create | commands.Start) -> None:
        worker_id, is_new = order.worker_id, isinstance(order, commands.Create)
        if is_new and self.creates_fail:
            self.send(events.InstanceFailed(worker_id, "create", "no machine is to be had"))
            return
        box = self.boxes.setdefault(worker_id, Box(worker_id))
        if not box.running:
            box.running, box.boots, box.received = True, box.boots + 1, 0
            boot = box.boots
            self.after(self.boot_s if is_new else self.start_s, lambda: self._get_ready(box, boot))
        self.peak = max(self.peak, len(self.boxes))
        self.send((events.InstanceCreated if is_new else events.InstanceStarted)(worker_id))

    def _end(self, order: commands.Stop | commands.Destroy) -> None:
        box = self.boxes.get(order.worker_id)
        if box is not None:
            self._switch_off(box)
        if isinstance(order, commands.Stop):
            self.send(events.InstanceStopped(order.worker_id))
            return
        self.boxes.pop(order.worker_id, None)
        self.send(events.InstanceGone(order.worker_id))

    @staticmethod
    def _switch_off(box: Box) -> None:
        box.running = box.ready = box.mute = False
        box.error = ""
        box.sessions.clear()

    def list_fleet(self) -> list[Command]:
        """The fleet says all that it has."""
        ours = [box for box in self.boxes.values() if box.ours]
        shown = tuple((box.worker_id, "running" if box.running else "stopped") for box in ours)
        return self.send(events.FleetListed(FLEET, self.now, shown))

    def join(self, worker_id: int) -> Box:
        """A worker that somebody else started reports with the endpoint's join token."""
        box = self.boxes[worker_id] = Box(worker_id, boots=1, running=True, ours=False)
        self.send(events.WorkerJoined(worker_id, GROUP))
        self._get_ready(box, 1)
        return box

    def kill(self, worker_id: int, detail: str = "exit code 1") -> None:
        """A worker's instance ends by itself, and the fleet sees it."""
        self._switch_off(self.boxes.pop(worker_id))
        self.send(events.InstanceExited(worker_id, detail))

    # -------------------------------------------------------------------------------------------------------- workers

    def _get_ready(self, box: Box, boot: int) -> None:
        if box.running and box.boots == boot:
            box.ready = True
            self._report_for_ever(box, boot)

    def _report_for_ever(self, box: Box, boot: int) -> None:
        if box.running and box.boots == boot:
            self.report(box.worker_id)
            self.after(REPORT_S, lambda: self._report_for_ever(box, boot))

    def report(self, worker_id: int) -> list[Command]:
        """The worker says what it truly holds, unless it is mute."""
        box = self.boxes[worker_id]
        if box.mute or not box.running:
            return []
        return self.send(self.status(box))

    def status(self, box: Box) -> events.WorkerReported:
        """What the worker would report now."""
        load = sum(box.sessions.values())
        url = f"http://worker-{box.worker_id}:80"
        held = tuple(box.sessions)
        return events.WorkerReported(
            box.worker_id, url, box.ready, box.error, self.workergroup.perf, load, held, box.received
        )

    def _go_to_worker(self, grant: commands.Grant) -> None:
        client, box = self.clients.get(grant.request_idx), self.boxes.get(grant.worker_id)
        if client is None or not client.waits or client.held_at is not None:
            return
        taken = box is not None and box.ready and (client.request_idx in box.sessions or self._has_room(box))
        if box is None or not taken:
            client.refusals += 1
            if box is not None and box.running:
                box.received += 1
                self._finish(box.worker_id, client.request_idx, "Rejected")
            self.after(TICK_S, lambda: self._call(client))
            return
        box.sessions[client.request_idx] = client.cost
        box.received += 1
        client.held_at, client.worker_id = self.now, box.worker_id
        self.after(self.hop_s, lambda: self._report_if_there(box))

    def _has_room(self, box: Box) -> bool:
        return len(box.sessions) < self.sessions_max

    def _report_if_there(self, box: Box) -> None:
        if self.boxes.get(box.worker_id) is box:
            self.report(box.worker_id)

    def _finish(self, worker_id: int, request_idx: int, status: str) -> None:
        self.send(events.RequestsFinished(worker_id, (events.Finished(request_idx, status, self.now),)))

    # -------------------------------------------------------------------------------------------------------- clients

    def ask(self, request_idx: int, cost: float = 100.0) -> None:
        """A client asks for a worker, and goes on asking until it has one."""
        client = self.clients[request_idx] = Client(request_idx, cost, self.now)
        self._call(client)

    def _call(self, client: Client) -> None:
        if not client.waits or client.held_at is not None:
            return
        client.calling += 1
        call = client.calling
        if self._down:
            self.after(POLL_S, lambda: self._call(client))
            return
        self.after(HOLD_S, lambda: self._answer_waiting(client, call))
        self.send(events.Asked(ENDPOINT, client.request_idx, client.cost))

    def _answer_waiting(self, client: Client, call: int) -> None:
        if client.waits and client.held_at is None and client.calling == call:
            self.send(events.HoldEnded(client.request_idx))
            self.after(POLL_S, lambda: self._call(client))

    def leave(self, request_idx: int) -> None:
        """A client hangs up while it waits."""
        self.vanish(request_idx)
        self.send(events.WaiterGone(request_idx))

    def vanish(self, request_idx: int) -> None:
        """A client disappears, and its connection stays open."""
        self.clients[request_idx].waits = False

    def close(self, request_idx: int) -> None:
        """A client gives its worker back."""
        client = self.clients[request_idx]
        box = self.boxes[client.worker_id]
        del box.sessions[request_idx]
        client.waits = False
        self._finish(box.worker_id, request_idx, "Success")
        self.report(box.worker_id)

    # --------------------------------------------------------------------------------------------------------- engine

    def crash(self) -> None:
        """The engine is killed: all calls break, and nothing is heard."""
        self._down = True
        for client in self.clients.values():
            if client.waits and client.held_at is None:
                self.after(POLL_S, lambda client=client: self._call(client))  # type: ignore[misc]  # mypy infers no lambda with a default

    def start_again(self) -> list[Command]:
        """A new engine takes over what the one before had written down."""
        written = self.written()
        self.engine, self._down, self.journal_lines = Engine(), False, []
        self._define()
        return self.send(written)

    def written(self) -> events.Restored:
        """What the engine has written down: all that it knows."""
        state = self.engine.state
        workers = tuple(filter(None, (recovery.worker_record(state, worker_id) for worker_id in state.workers)))
        reservations = tuple(
            filter(None, (recovery.reservation_record(state, idx) for idx in sorted(state.reservations)))
        )
        return events.Restored(state.next_worker_id, workers, reservations)

    # --------------------------------------------------------------------------------------------------------- truths

    def holders(self) -> dict[int, int]:
        """Who truly holds which worker: request_idx -> worker id."""
        return {idx: box.worker_id for box in self.boxes.values() for idx in box.sessions}

    def running(self) -> int:
        """Instances that truly run."""
        return sum(box.running for box in self.boxes.values())

    def of(self, kind: type[_C]) -> list[_C]:
        """All commands of one kind so far."""
        return [command for command in self.commands if isinstance(command, kind)]

    def notes(self, kind: str) -> list[commands.Note]:
        """All notes of one kind so far."""
        return [note for note in self.of(commands.Note) if note.kind == kind]
