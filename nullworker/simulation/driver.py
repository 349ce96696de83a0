"""The engine's body in the simulated world: the engine's own driver (`nullworker.core.driver`), with a virtual clock
and a simulated network around it. It asks the fleet for its list, is killed between any two effects, paused, and
started again from what it had written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events, invariants, journal
from nullworker.core.commands import Create, Destroy, Grant, Note, Refuse, Start, Stop
from nullworker.core.driver import LIST_PERIOD_S, Driver
from nullworker.core.engine import Engine
from nullworker.core.timers import Timer, Timers
from nullworker.simulation.event_queue import AT_ONE_INSTANT_MAX, Stalled
from nullworker.simulation.network import Link
from nullworker.simulation.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from nullworker.core.commands import Command
    from nullworker.core.driver import Order
    from nullworker.core.events import RestoredWorker
    from nullworker.core.parameters import Parameters, WorkergroupSpec
    from nullworker.simulation.context import Context
    from nullworker.simulation.fleet import Fleet
    from nullworker.simulation.hooks import Call, Hooks
    from nullworker.simulation.plan import Plan
    from nullworker.simulation.process import Process

STORE_LAG_S = 0.05
_EFFECTS = (Grant, Refuse, Create, Start, Stop, Destroy)


class CountedTimers(Timers):
    """An engine's reminders, which notice when it takes them without end within one event."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        super().__init__()
        self._left = AT_ONE_INSTANT_MAX

    def next_at(self) -> float | None:
        """An engine looks at this when an event begins: it may take all that are set, and many that it sets then."""
        self._left = len(self) + AT_ONE_INSTANT_MAX
        return super().next_at()

    def pop_due(self, now: float) -> tuple[Timer, int] | None:
        self._left -= 1
        if self._left < 0:
            raise Stalled("the engine reminds itself without end within one event")
        return super().pop_due(now)


class SimulatedDriver:
    """The driver of one core after another, and the IO around it. ``engine`` is None while it is down."""

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
        self.places = 0  # so far, between two effects or beside them, where a kill makes a difference
        self.kill_at_place: int | None = None
        self.endpoints: dict[int, tuple[str, Parameters]] = {}
        self.groups: dict[int, WorkergroupSpec] = {}
        self.deleting: dict[int, bool] = {}  # endpoint id -> by force
        self.next_request_idx = 1
        self.journal_lines: list[str] | None = None
        self.journal_times: list[float] = []  # the world's time at each of its lines
        self.check_every = 16  # events between two looks at the core's own invariants
        self._driver: Driver[Call] = Driver(self)
        self._driver.end()  # none runs yet
        self._backlog: list[Callable[[], object]] = []
        #: Of the event in hand, the effects that are still carried out before the engine is killed; None: it is not.
        self._last_effects: set[int] | None = None
        self._dropped: list[Call] = []  # calls whose answers a kill prevented

    # --------------------------------------------------------------------------------------------------- life and death

    @property
    def clock(self) -> float:
        """The engine's monotonic clock now."""
        return self.context.queue.now + self.clock_skew_s

    @property
    def calls(self) -> Mapping[int, Call]:
        """The calls that are held open, by request_idx."""
        return self._driver.calls

    def start(self) -> None:
        """Starts an engine on what is written."""
        self._note(journal.begin("simulated"))
        self.engine = Engine(CountedTimers())
        self._driver = Driver(self, self.engine)
        self.generation += 1
        self.started_at = self.context.now
        self.hooks.engine_started()
        for endpoint_id, (name, parameters) in self.endpoints.items():
            self.handle(events.EndpointPut(endpoint_id, name, parameters))
        for group in self.groups.values():
            self.handle(events.WorkergroupPut(group))
        if self.generation > 1:
            self.store.take_over(self._beyond_store())
            self.handle(self.store.restored())
        for endpoint_id, force in list(self.deleting.items()):
            self.handle(events.EndpointDeleted(endpoint_id, force))
        self._list(self.generation)

    def _beyond_store(self) -> Iterator[RestoredWorker]:
        """Workers that the fleet lists and the store does not have, as `nullworker.engine.takeover` finds them."""
        groups = {group.endpoint_id: group.workergroup_id for group in reversed(self.groups.values())}
        for worker_id, listed_as in self.fleet.list() or ():
            instance = self.fleet.instances.get(worker_id)
            group_id = groups.get(instance.endpoint_id) if instance is not None else None
            state = {"running": "ready", "stopped": "inactive"}.get(listed_as)
            if group_id is not None and state is not None:
                yield events.RestoredWorker(worker_id, group_id, state, "", 0.0)

    def kill(self) -> None:
        """Ends the engine as ``kill -9`` does."""
        if self.engine is None:
            return
        self.store.killed(self.context.now)
        lost = self.context.faults.ledger_lost
        if lost and self.context.fates.random() < 0.5 * lost:
            self.store.lose()
            self.hooks.ledger_lost()
        self.engine = None
        self._backlog.clear()
        calls = [*self._dropped, *self._driver.end().values()]
        self._dropped.clear()
        for call in calls:
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

    def _stands_still(self, do: Callable[[], object]) -> bool:
        if self.paused_until > self.context.now:
            if self.engine is not None:
                self._backlog.append(do)
            return True
        return False

    def _note(self, line: str) -> None:
        if self.journal_lines is not None:
            self.journal_lines.append(line)
            self.journal_times.append(self.context.now)

    def clock_jumps(self, seconds: float) -> None:
        """The clock is another than before: what was planned by it is planned again."""
        self.hooks.engine_pauses()  # what was over by the clock before
        self.clock_skew_s += seconds
        self.away_until = self.clock
        self._driver.clock_changed()

    def handle(self, event: events.Event) -> None:
        """Lets the core take one event in, and carries out what it commands."""
        self._driver.handle(event)

    # ------------------------------------------------------------------------------------------- what the driver needs

    def now(self) -> float:
        """The time of the core."""
        return self.clock

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> None:
        """Plans a callback for a time of the engine's clock."""
        self.context.queue.at(when - self.clock_skew_s, self._call, callback, arguments)

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: object) -> None:
        """Plans a callback for later."""
        self.context.queue.after(delay_s, self._call, callback, arguments)

    def _call(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if not self._stands_still(lambda: callback(*arguments)):
            callback(*arguments)

    def decided(self, event: events.Event, now: float, commands: Sequence[Command]) -> None:
        """Writes down what must survive a kill, and decides whether there is one before the effects are over."""
        engine = self._driver.engine
        decided = commands if isinstance(commands, list) else list(commands)
        self.events += 1
        if self.journal_lines is not None:
            self._note(journal.encode(event, now, decided))
        if self.events % self.check_every == 0:
            invariants.check(engine)
        self.store.leave(engine, decided, self.context.now)
        effects = [command for command in commands if isinstance(command, _EFFECTS)] if commands else []
        commits = True
        if effects:
            commits = self._survives_commit(effects)
        if commits:  # else nothing of this event is ever seen outside
            self.hooks.handled(engine, event, decided)
            if effects:
                self.store.commit_now(engine, decided)

    def _survives_commit(self, effects: Sequence[Command]) -> bool:
        """Whether the grants and creations of the event in hand are committed.

        If the engine is killed at this event, it is before that, or after so many of the effects.
        """
        places, self.places = self.places, self.places + len(effects) + 2
        count: int | None = None
        if self.kill_at_place is not None and places <= self.kill_at_place < self.places:
            count = self.kill_at_place - places - 1
        elif self.kill_at is not None and self.kill_at <= self.context.now:
            self.kill_at = None
            count = self.context.random.randint(-1, len(effects))
        if count is not None:
            self._last_effects = {id(effect) for effect in effects[: max(0, count)]}
        return count is None or count >= 0

    def answer(self, call: Call, request_idx: int, answer: Grant | Refuse | None) -> None:
        """Answers a held call."""
        if self._last_effects is not None and id(answer) not in self._last_effects:
            self._dropped.append(call)
        elif not self.context.network.answer_is_lost(Link.CLIENT_ENGINE):
            given = request_idx if answer is None else answer
            self.context.network.send(Link.CLIENT_ENGINE, call.answered, given)

    def order(self, order: Order) -> None:
        """Gives an order to the fleet."""
        if self._last_effects is not None and id(order) not in self._last_effects:
            return
        worker_id, verb = order.worker_id, type(order).__name__.lower()
        self.last_order_at = self.context.now
        group = self.groups.get(order.workergroup_id) if isinstance(order, Create) else None
        endpoint_id = group.endpoint_id if group is not None else 0
        driver = self._driver

        def answer(detail: str, definite: bool) -> None:
            if not driver.has_ended and not self._stands_still(lambda: answer(detail, definite)):
                driver.order_ended(worker_id, verb, detail, definite=definite)

        self.hooks.ordered(verb, worker_id, endpoint_id)
        self.fleet.order(verb, worker_id, endpoint_id, self.plan.kind_of(group), answer)

    def handled(self, _event: events.Event, _now: float, commands: Sequence[Command]) -> None:
        """Forgets endpoints that are gone; and the engine is killed if it was to be."""
        for command in commands:
            if isinstance(command, Note) and command.kind == "endpoint_deleted":
                self.endpoints.pop(command.endpoint_id, None)
                self.deleting.pop(command.endpoint_id, None)
                self.groups = {i: g for i, g in self.groups.items() if g.endpoint_id != command.endpoint_id}
        if self._last_effects is not None:
            self._last_effects = None
            self.kill()

    def failed(self, event: events.Event, now: float, _error: Exception) -> None:
        """Keeps the event at which the core failed: `replay` needs it."""
        if self.journal_lines is not None:
            self._note(journal.encode(event, now, []))

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
        call.open_as = request_idx
        self.hooks.asked(request_idx, endpoint_id, call)
        self._driver.ask(call, endpoint_id, request_idx, cost, replay_timeout_s)

    def hang_up(self, call: Call) -> None:
        """The client's end of the connection closed."""
        request_idx = call.open_as
        if self.calls.get(request_idx) is call and not self._stands_still(lambda: self.hang_up(call)):
            self.hooks.hung_up(request_idx)
            self._driver.hang_up(call, request_idx)

    # -------------------------------------------------------------------------------------------- workers and operators

    def worker_says(
        self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int
    ) -> bool:
        """A worker's message arrives; False: it was not taken."""
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
        """A message that its sender had no right to send reaches the core all the same: it must change nothing."""
        if self.engine is not None and not self._stands_still(lambda: None):
            self.hooks.about_to_forge()
            self.handle(event)

    # --------------------------------------------------------------------------------------------------------- fleets

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
