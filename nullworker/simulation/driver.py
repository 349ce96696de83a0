"""The engine's body in the simulated world: feeds one core, carries out its commands, holds calls open for 8 s, asks
the fleet for its list, and is killed between any two effects, paused, and started again from what it had written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import events, invariants, journal
from nullworker.core.commands import Create, Destroy, Grant, Note, Refuse, Start, Stop
from nullworker.core.engine import Engine
from nullworker.core.timers import Timer, Timers
from nullworker.simulation.event_queue import AT_ONE_INSTANT_MAX, Stalled
from nullworker.simulation.network import Link
from nullworker.simulation.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core.commands import Command
    from nullworker.core.parameters import Parameters, WorkergroupSpec
    from nullworker.simulation.context import Context
    from nullworker.simulation.fleet import Fleet
    from nullworker.simulation.hooks import Call, Hooks
    from nullworker.simulation.plan import Plan
    from nullworker.simulation.process import Process

HOLD_S = 8.0
LIST_PERIOD_S = 30.0
STORE_LAG_S = 0.05
TIMER_SLACK_S = 0.0005  # due times are met this much late rather than early
_EFFECTS = (Grant, Refuse, Create, Start, Stop, Destroy)


class Reminders(Timers):
    """An engine's reminders, which notice when it takes them without end within one event."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        super().__init__()
        self.left = 0

    def event_begins(self) -> None:
        """The engine takes a new event in: it may take all that are set, and a good many that it sets meanwhile."""
        self.left = len(self) + AT_ONE_INSTANT_MAX

    def pop_due(self, now: float) -> tuple[Timer, int] | None:
        self.left -= 1
        if self.left < 0:
            raise Stalled("the engine reminds itself without end within one event")
        return super().pop_due(now)


class SimulatedDriver:
    """The driver of one core after another. ``engine`` is None while it is down."""

    def __init__(self, context: Context, plan: Plan, fleet: Fleet, hooks: Hooks, killed: Callable[[], None]) -> None:
        self.context = context
        self.plan = plan
        self.fleet = fleet
        self.hooks = hooks
        self._killed = killed
        self.engine: Engine | None = None
        self.store = Store(STORE_LAG_S)
        self.generation = 0  # of engines
        self.started_at = 0.0
        self.paused_until = 0.0
        self.away_until = -1e18  # by its clock: the last time that it was not at work
        self.clock_skew_s = 0.0
        self.events = 0
        self.last_order_at = 0.0
        self.kill_at: float | None = None  # at the first effect after this
        self.endpoints: dict[int, tuple[str, Parameters]] = {}
        self.groups: dict[int, WorkergroupSpec] = {}
        self.deleting: dict[int, bool] = {}  # endpoint id -> by force
        self.calls: dict[int, Call] = {}
        self.next_request_idx = 1
        self.journal_lines: list[str] | None = None
        self.check_every = 16  # events between two looks at the core's own invariants
        self._wake_at: float | None = None
        self._backlog: list[Callable[[], object]] = []
        self._under_way: dict[int, str] = {}
        self._reminders = Reminders()

    # --------------------------------------------------------------------------------------------------- life and death

    @property
    def clock(self) -> float:
        """The engine's monotonic clock now."""
        return self.context.now + self.clock_skew_s

    def start(self) -> None:
        """Starts an engine on what is written."""
        if self.journal_lines is not None:
            self.journal_lines.append(journal.begin("simulated"))
        self.engine = Engine()
        self._reminders = self.engine.state.timers = Reminders()
        self.generation += 1
        self.started_at = self.context.now
        self._wake_at, self._under_way = None, {}
        self.hooks.engine_started()
        for endpoint_id, (name, parameters) in self.endpoints.items():
            self.handle(events.EndpointPut(endpoint_id, name, parameters))
        for group in self.groups.values():
            self.handle(events.WorkergroupPut(group))
        if self.generation > 1:
            self.handle(self.store.restored())
        for endpoint_id, force in list(self.deleting.items()):
            self.handle(events.EndpointDeleted(endpoint_id, force))
        self._list(self.generation)

    def kill(self) -> None:
        """Ends the engine as ``kill -9`` does."""
        if self.engine is None:
            return
        self.store.killed(self.context.now)
        self.engine = None
        self._backlog.clear()
        calls, self.calls = self.calls, {}
        for call in calls.values():
            self.context.network.send(Link.CLIENT_ENGINE, call.broken)
        self.hooks.engine_killed()
        self._killed()

    def pause(self, seconds: float) -> None:
        """The process stands still; what arrives waits for it."""
        if self.paused_until <= self.context.now:
            self.hooks.engine_pauses()
            self.paused_until = self.context.now + seconds
            self.context.queue.at(self.paused_until, self.resume)

    def resume(self) -> None:
        """The process goes on with what waited for it."""
        if self._backlog:
            self.away_until = self.clock
        backlog, self._backlog = self._backlog, []
        for do in backlog:
            do()
        self._set_timer()

    def _stands_still(self, do: Callable[[], object]) -> bool:
        if self.paused_until > self.context.now:
            if self.engine is not None:
                self._backlog.append(do)
            return True
        return False

    # --------------------------------------------------------------------------------------------------------- events

    def handle(self, event: events.Event) -> None:
        """Lets the core take one event in, and carries out what it commands."""
        engine = self.engine
        if engine is None:
            return
        now = self.clock
        self._reminders.event_begins()
        try:
            decided = engine.handle(event, now)
        except Exception:
            if self.journal_lines is not None:
                self.journal_lines.append(journal.encode(event, now, []))
            raise
        self.events += 1
        if self.journal_lines is not None:
            self.journal_lines.append(journal.encode(event, now, decided))
        if self.events % self.check_every == 0:
            invariants.check(engine)
        self.store.note(engine, self.context.now)
        self.hooks.handled(engine, event, decided)
        if decided:
            self._carry_out(decided)
        self._set_timer()

    def _carry_out(self, decided: list[Command]) -> None:
        effects = [command for command in decided if isinstance(command, _EFFECTS)]
        if not effects:
            self._forget_deleted(decided)
            return
        self.store.write(self.context.now)
        cut = None
        if self.kill_at is not None and self.kill_at <= self.context.now and self.generation:
            self.kill_at = None
            cut = self.context.random.randint(0, len(effects))
        for command in effects[:cut]:
            if isinstance(command, (Grant, Refuse)):
                call = self.calls.pop(command.request_idx, None)
                if call is not None:
                    self._answer(call, command)
            else:
                self._order(command)
        self._forget_deleted(decided)
        if cut is not None:
            self.kill()

    def _forget_deleted(self, decided: list[Command]) -> None:
        for command in decided:
            if isinstance(command, Note) and command.kind == "endpoint_deleted":
                self.endpoints.pop(command.endpoint_id, None)
                self.deleting.pop(command.endpoint_id, None)
                self.groups = {i: g for i, g in self.groups.items() if g.endpoint_id != command.endpoint_id}

    def _set_timer(self) -> None:
        if self.engine is None:
            return
        due = self.engine.wake_at()
        if due is None:
            return
        due += TIMER_SLACK_S - self.clock_skew_s
        if self._wake_at is None or due < self._wake_at:
            self._wake_at = due
            self.context.queue.at(due, self._wake, due, self.generation)

    def _wake(self, planned: float, generation: int) -> None:
        if planned != self._wake_at or generation != self.generation or self.engine is None:
            return
        if self._stands_still(lambda: None):
            self._wake_at = None  # the resume sets it again
            return
        self._wake_at = None
        self.handle(events.TimePassed())

    def clock_jumped(self) -> None:
        """The clock is another than before: what was planned by it is planned anew."""
        self._wake_at = None
        self.away_until = self.clock
        self._set_timer()

    # -------------------------------------------------------------------------------------------------------- clients

    def route(self, call: Call, endpoint_id: int, request_idx: int, cost: float, replay_timeout_s: float) -> None:
        """A /route/ call arrives (request_idx 0: the client's first)."""
        if self.engine is None:
            self.context.network.send(Link.CLIENT_ENGINE, call.broken)
            return
        if self._stands_still(lambda: self.route(call, endpoint_id, request_idx, cost, replay_timeout_s)):
            return
        if not request_idx:
            request_idx = self.next_request_idx
            self.next_request_idx += 1
        earlier = self.calls.pop(request_idx, None)
        if earlier is not None and earlier is not call:
            self._answer(earlier, request_idx)
        self.calls[request_idx] = call
        call.open_as = request_idx
        generation = self.generation
        self.hooks.asked(request_idx, endpoint_id, call)
        self.handle(events.Asked(endpoint_id, request_idx, cost, replay_timeout_s))
        if self.calls.get(request_idx) is call:
            self.context.queue.after(HOLD_S, self._hold_ends, request_idx, call, generation)

    def _hold_ends(self, request_idx: int, call: Call, generation: int) -> None:
        if generation != self.generation or self.calls.get(request_idx) is not call:
            return
        if self._stands_still(lambda: self._hold_ends(request_idx, call, generation)):
            return
        del self.calls[request_idx]
        self._answer(call, request_idx)
        self.handle(events.HoldEnded(request_idx))

    def hang_up(self, call: Call) -> None:
        """The client's end of the connection closed."""
        request_idx = call.open_as
        if self.calls.get(request_idx) is call and not self._stands_still(lambda: self.hang_up(call)):
            del self.calls[request_idx]
            self.hooks.hung_up(request_idx)
            self.handle(events.WaiterGone(request_idx))

    def _answer(self, call: Call, answer: Grant | Refuse | int) -> None:
        if not self.context.network.answer_is_lost(Link.CLIENT_ENGINE):
            self.context.network.send(Link.CLIENT_ENGINE, call.answered, answer)

    # -------------------------------------------------------------------------------------------- workers and operators

    def worker_says(
        self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int
    ) -> bool:
        """A worker's message arrives; False: the engine is down."""
        if self.engine is None:
            return False
        if self._stands_still(lambda: self.worker_says(message, process, snapshot)):
            return True
        if message.worker_id not in self.engine.state.workers:
            return True  # its token is not valid (any more); a worker takes any answer
        self.hooks.told(message, process, snapshot)
        self.handle(message)
        return True

    def operate(self, event: events.Event) -> None:
        """An operator's word; it is written down before it is heard."""
        if isinstance(event, events.EndpointPut):
            if event.endpoint_id in self.deleting:
                return
            self.endpoints[event.endpoint_id] = (event.name, event.parameters)
        elif isinstance(event, events.WorkergroupPut):
            self.groups[event.workergroup.workergroup_id] = event.workergroup
        elif isinstance(event, events.EndpointDeleted):
            self.deleting[event.endpoint_id] = event.force
        if self.engine is not None and not self._stands_still(lambda: self.handle(event)):
            self.handle(event)

    def forged(self, event: events.Event) -> None:
        """A message that its sender was not entitled to send reaches the core: it must change nothing."""
        if self.engine is not None and not self._stands_still(lambda: None):
            self.hooks.about_to_forge()
            self.handle(event)

    # --------------------------------------------------------------------------------------------------------- fleets

    def _order(self, command: Create | Start | Stop | Destroy) -> None:
        worker_id, verb = command.worker_id, type(command).__name__.lower()
        if self._under_way.get(worker_id) == verb:
            return  # the same order given again while it is under way is not doubled
        self._under_way[worker_id] = verb
        self.last_order_at = self.context.now
        group = self.groups.get(command.workergroup_id) if isinstance(command, Create) else None
        endpoint_id = group.endpoint_id if group is not None else 0
        kind = self.plan.kind_of(group)
        generation = self.generation

        def answer(detail: str, definite: bool) -> None:
            self._order_answered(generation, worker_id, verb, detail, definite=definite)

        self.hooks.ordered(verb, worker_id, endpoint_id)
        self.fleet.order(verb, worker_id, endpoint_id, kind, answer)

    def _order_answered(self, generation: int, worker_id: int, verb: str, detail: str, *, definite: bool) -> None:
        if generation != self.generation or self.engine is None:
            return
        if self._stands_still(lambda: self._order_answered(generation, worker_id, verb, detail, definite=definite)):
            return
        if self._under_way.get(worker_id) == verb:
            del self._under_way[worker_id]
        if detail:
            self.handle(events.InstanceFailed(worker_id, verb, detail, definite))
        else:
            self.handle(_DONE[verb](worker_id))

    def instance_exited(self, worker_id: int, detail: str) -> None:
        """The fleet tells that an instance ended by itself."""
        if not self._stands_still(lambda: self.instance_exited(worker_id, detail)):
            self.hooks.told_of_exit(worker_id)
            self.handle(events.InstanceExited(worker_id, detail))

    def _list(self, generation: int) -> None:
        if generation != self.generation or self.engine is None:
            return
        self.context.queue.after(LIST_PERIOD_S, self._list, generation)
        shown = self.fleet.list()
        if shown is not None:
            takes_s = self.context.network.latency_s() + self.context.random.uniform(0, 0.5)
            self.context.queue.after(takes_s, self._listed, generation, self.clock, shown)

    def _listed(self, generation: int, asked_at: float, shown: tuple[tuple[int, str], ...]) -> None:
        if generation != self.generation or self.engine is None:
            return
        if not self._stands_still(lambda: self._listed(generation, asked_at, shown)):
            self.hooks.told_of_list(asked_at, shown)
            self.handle(events.FleetListed(self.fleet.name, asked_at, shown))


_DONE: dict[str, Any] = {
    "create": events.InstanceCreated,
    "start": events.InstanceStarted,
    "stop": events.InstanceStopped,
    "destroy": events.InstanceGone,
}
