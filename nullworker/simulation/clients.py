"""A simulated client: asks for a reservation, holds it, ends it. The stock SDK sleeps between its polls and lets an
error of the engine end its wait; nullworker's own asks again at once and outlives an engine's restart.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core.commands import Grant, Refuse
from nullworker.simulation.network import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.context import Context
    from nullworker.simulation.process import Process

CALL_TIMEOUT_S = 10.0
REPLAY_TIMEOUT_S = 60.0
RETRY_S = 1.0
ENDS_TRIED_MAX = 3


class ClientStage(enum.Enum):
    """Where a client is with its one reservation."""

    ASKING = "asking"
    GOING = "going"  # it has a grant and calls the worker
    HOLDING = "holding"
    DONE = "done"  # held and closed
    REFUSED = "refused"
    FAILED = "failed"  # raised an error to its caller
    LEFT = "left"  # gave up, or vanished
    LOST = "lost"  # its worker died under it


@dataclass(frozen=True, slots=True)
class Job:
    """What a client is there for."""

    arrives_at: float
    hold_s: float
    endpoint_id: int = 1
    cost: float = 100.0
    stock: bool = False  # the unmodified SDK
    lifetime_s: float = 60.0


class RouteCall:
    """One /route/ call of a client; its answer counts only while the client waits for this very call."""

    __slots__ = ("_client", "_turn", "open_as")

    def __init__(self, client: Client, turn: int) -> None:
        self._client = client
        self._turn = turn
        self.open_as = 0

    @property
    def endpoint_id(self) -> int:
        """The endpoint that it asks for."""
        return self._client.job.endpoint_id

    def answered(self, answer: Grant | Refuse | int) -> None:
        """The engine's answer arrives."""
        self._client.answered(answer, self._turn)

    def broken(self) -> None:
        """The connection broke."""
        self._client.broken(self._turn)


class ClientLinks(NamedTuple):
    """How a client reaches the engine and workers, and who is told of what becomes of it."""

    route: Callable[[RouteCall, int, int, float, float], None]  # call, endpoint, request_idx, cost, replay timeout
    hang_up: Callable[[RouteCall], None]
    process: Callable[[int], Process | None]  # a worker's, by its id
    held: Callable[[Client], None]
    over: Callable[[Client], None]


class Client:
    """One client with one job."""

    __slots__ = (
        "_call",
        "_ends",
        "_polls",
        "_turn",
        "context",
        "held_at",
        "job",
        "links",
        "number",
        "request_idx",
        "stage",
        "worker_id",
    )

    def __init__(self, context: Context, links: ClientLinks, number: int, job: Job) -> None:
        self.context = context
        self.links = links
        self.number = number
        self.job = job
        self.stage = ClientStage.ASKING
        self.request_idx = 0
        self.worker_id = 0
        self.held_at: float | None = None
        self._call = RouteCall(self, 0)
        self._polls = 0
        self._turn = 0  # what belongs to an earlier turn comes too late
        self._ends = 0

    # -------------------------------------------------------------------------------------------------------- asking

    def ask(self) -> None:
        """Calls /route/."""
        if self.stage is not ClientStage.ASKING:
            return
        self._turn += 1
        self._call = RouteCall(self, self._turn)
        self.context.network.send(Link.CLIENT_ENGINE, self._arrive, self._call, self._turn)
        self.context.queue.after(CALL_TIMEOUT_S, self._timed_out, self._turn)

    def _arrive(self, call: RouteCall, turn: int) -> None:
        if self._turn == turn or self.context.faults.half_open:
            job = self.job
            self.links.route(call, job.endpoint_id, self.request_idx, job.cost, REPLAY_TIMEOUT_S)

    def _timed_out(self, turn: int) -> None:
        if turn == self._turn and self.stage is ClientStage.ASKING:
            self._turn += 1
            self._hang_up()
            self._call_failed()

    def broken(self, turn: int) -> None:
        """The connection of its call broke."""
        if self.stage is ClientStage.ASKING and turn == self._turn:
            self._turn += 1
            self._call_failed()

    def _call_failed(self) -> None:
        if self.job.stock:
            self._over(ClientStage.FAILED)
        else:
            self.context.queue.after(RETRY_S, self.ask)

    def _hang_up(self) -> None:
        faults = self.context.faults
        if not (faults.half_open and self.context.random.random() < faults.half_open):
            self.context.network.send(Link.CLIENT_ENGINE, self.links.hang_up, self._call)

    def answered(self, answer: Grant | Refuse | int, turn: int) -> None:
        """The engine's answer to one of its calls arrives; what it has hung up on reaches it no more."""
        if self.stage is not ClientStage.ASKING or turn != self._turn:
            return
        if isinstance(answer, int):
            if self.request_idx and answer != self.request_idx:
                return
            self._turn += 1
            self.request_idx = answer
            self._wait()
        elif isinstance(answer, Refuse):
            self._over(ClientStage.REFUSED)
        elif self.request_idx in (0, answer.request_idx):
            self._turn += 1
            self.request_idx = answer.request_idx
            self._go(answer)

    def _wait(self) -> None:
        if not self.job.stock:
            self.ask()
            return
        random = self.context.random
        self._polls += 1
        pause_s = 1.0 if self._polls == 1 else random.uniform(0.1, min(2.0**self._polls + random.random(), 5.0))
        self.context.queue.after(pause_s, self.ask)

    # ------------------------------------------------------------------------------------------------- at the worker

    def _go(self, grant: Grant) -> None:
        context = self.context
        self.stage = ClientStage.GOING
        expires_at = context.now + grant.expires_in_s
        delay_s = 0.0
        if context.faults.use_late and context.random.random() < 0.5 * context.faults.use_late:
            delay_s = context.random.uniform(0.8, 1.3) * grant.expires_in_s
        context.queue.after(delay_s, self._create, grant.worker_id, expires_at, self._turn)
        context.queue.after(delay_s + CALL_TIMEOUT_S, self._no_answer, self._turn)

    def _create(self, worker_id: int, expires_at: float, turn: int) -> None:
        if turn == self._turn and self.stage is ClientStage.GOING:
            self.context.network.send(Link.CLIENT_WORKER, self._at_worker, worker_id, expires_at, turn)

    def _at_worker(self, worker_id: int, expires_at: float, turn: int) -> None:
        process = self.links.process(worker_id)
        if process is None or not process.alive:
            self.context.network.send(Link.CLIENT_WORKER, self._answered_by_worker, worker_id, 0, turn)
            return
        if not process.answers:
            return
        status = process.create(self, self.request_idx, self.job.cost, self.job.lifetime_s, expires_at)
        gone = self.stage is not ClientStage.GOING or turn != self._turn
        network = self.context.network
        told = (
            not gone
            and not network.answer_is_lost(Link.CLIENT_WORKER)
            and network.send(Link.CLIENT_WORKER, self._answered_by_worker, worker_id, status, turn)
        )
        if status == 201 and not told:
            process.left_alone(self.request_idx)  # until it comes again

    def _answered_by_worker(self, worker_id: int, status: int, turn: int) -> None:
        if turn != self._turn or self.stage is not ClientStage.GOING:
            if status == 201:
                self._leave_alone(worker_id)
            return
        self._turn += 1
        if status == 201:
            self._hold(worker_id)
        else:
            self.stage = ClientStage.ASKING
            self.ask()  # the SDK does not sleep here

    def _no_answer(self, turn: int) -> None:
        if turn == self._turn and self.stage is ClientStage.GOING:
            self._turn += 1
            self.stage = ClientStage.ASKING
            self.ask()

    def _leave_alone(self, worker_id: int) -> None:
        process = self.links.process(worker_id)
        if process is not None:
            process.left_alone(self.request_idx)

    def _hold(self, worker_id: int) -> None:
        process = self.links.process(worker_id)
        session = process.sessions.get(self.request_idx) if process is not None else None
        if session is None:
            self._over(ClientStage.LOST)
            return
        session.client, session.expires_at = self, float("inf")
        self.stage, self.worker_id, self.held_at = ClientStage.HOLDING, worker_id, self.context.now
        self.links.held(self)
        self.context.queue.after(self.job.hold_s, self._end)

    def session_closed(self, why: str) -> None:
        """Its session ended otherwise than by its own word."""
        if self.stage is ClientStage.HOLDING and why != "ended":
            self._over(ClientStage.LOST)

    # -------------------------------------------------------------------------------------------------------- ending

    def _end(self) -> None:
        if self.stage is not ClientStage.HOLDING:
            return
        self._ends += 1
        context = self.context
        context.network.send(Link.CLIENT_WORKER, self._end_at_worker, self._ends)
        context.queue.after(CALL_TIMEOUT_S, self._end_again, self._ends)
        if context.faults.close_twice and context.random.random() < context.faults.close_twice:
            context.network.send(Link.CLIENT_WORKER, self._end_at_worker, self._ends)

    def _end_at_worker(self, attempt: int) -> None:
        process = self.links.process(self.worker_id)
        if process is None or not process.answers:
            return
        process.end(self.request_idx)
        if not self.context.network.answer_is_lost(Link.CLIENT_WORKER):
            self.context.network.send(Link.CLIENT_WORKER, self._ended, attempt)

    def _ended(self, _attempt: int) -> None:
        if self.stage is ClientStage.HOLDING:
            self._over(ClientStage.DONE)

    def _end_again(self, attempt: int) -> None:
        if self.stage is ClientStage.HOLDING and attempt == self._ends:
            if attempt < ENDS_TRIED_MAX:
                self._end()
            else:
                self._leave_alone(self.worker_id)
                self._over(ClientStage.DONE)

    def vanish(self) -> None:
        """Gone without a word."""
        if self.stage in (ClientStage.ASKING, ClientStage.GOING, ClientStage.HOLDING):
            self._turn += 1
            if self.stage is ClientStage.HOLDING:
                self._leave_alone(self.worker_id)
            elif self.stage is ClientStage.ASKING:
                self._hang_up()  # the system it ran on closes its connections, if it still can
            self._over(ClientStage.LEFT)

    def give_up(self) -> None:
        """Cancelled by its caller while it waits."""
        if self.stage is ClientStage.ASKING:
            self._turn += 1
            self._hang_up()
            self._over(ClientStage.LEFT)

    def _over(self, stage: ClientStage) -> None:
        self.stage = stage
        self.links.over(self)

    @property
    def known_as(self) -> int:
        """The request_idx that the engine may know it by, whether this client was told it or not; 0: none."""
        return self.request_idx or self._call.open_as

    @property
    def wants(self) -> bool:
        """Whether it waits for, goes to or holds a reservation."""
        return self.stage in (ClientStage.ASKING, ClientStage.GOING, ClientStage.HOLDING)
