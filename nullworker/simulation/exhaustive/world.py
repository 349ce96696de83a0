"""A small world: the real engine, what surrounds it, and what the engine's commands do there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import journal, recovery
from nullworker.core.commands import Create, Destroy, Grant, Note, Refuse, Start, Stop
from nullworker.core.engine import Engine
from nullworker.core.events import EndpointPut, Restored, WorkergroupPut
from nullworker.simulation.driver import CountedTimers
from nullworker.simulation.exhaustive import model, promises
from nullworker.simulation.exhaustive.model import Client, Instance, Surroundings
from nullworker.simulation.exhaustive.scope import ENDPOINT
from nullworker.simulation.exhaustive.snapshot import load_engine, save_engine

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.events import Event
    from nullworker.simulation.exhaustive.scope import Scope


#: Late enough that a time of 0 is long ago.
STARTS_AT_S = 1_000.0
#: Stands for the version in a journal: another core may well decide otherwise.
BEGUN_AS = "a walk"


class World(Surroundings):
    """One world. Everything but the engine is an immutable value, so that `save` copies little."""

    __slots__ = ()

    def __init__(self, scope: Scope, lines: list[str] | None = None) -> None:
        self.scope = scope
        self.now = STARTS_AT_S
        self.put, self.endpoint = "", scope.as_put[""]
        self.instances = {}
        self.clients = {}
        self.mail = ()
        self.newcomers = scope.clients
        self.faults = scope.faults_max if scope.faults else 0
        self.next_request = 1
        self.started_at = -1000.0
        self.restarted_at = -1000.0
        self.failed_at = -1000.0
        self.pause_until = -1000.0
        self.given = ()
        self.calm = True
        self.kill = ""
        self.seen = set()
        self.journal = lines
        self._start_engine(None)

    # ------------------------------------------------------------------------------------------------- back and forth

    def save(self) -> tuple[Any, ...]:
        """The world as it is."""
        return (
            save_engine(self.engine),
            self.now,
            self.instances,
            self.clients,
            self.mail,
            self.newcomers,
            self.faults,
            self.next_request,
            self.started_at,
            self.restarted_at,
            self.failed_at,
            self.pause_until,
            self.given,
            self.calm,
            self.put,
            self.endpoint,
        )

    def load(self, saved: tuple[Any, ...]) -> None:
        """The world is again as it was saved."""
        (
            engine,
            self.now,
            self.instances,
            self.clients,
            self.mail,
            self.newcomers,
            self.faults,
            self.next_request,
            self.started_at,
            self.restarted_at,
            self.failed_at,
            self.pause_until,
            self.given,
            self.calm,
            self.put,
            self.endpoint,
        ) = saved
        self.engine = load_engine(engine)
        self.kill = ""

    # --------------------------------------------------------------------------------------------------------- events

    def handle(self, event: Event) -> None:
        """The engine handles an event, and what it decides is done."""
        engine = self.engine
        rows = self._rows() if self.kill == "rows" else None
        decided = engine.handle(event, self.now) if self.journal is None else self._handle_and_note(event)
        if self.kill == "answers":
            self._restart(self._rows())
            return
        if decided:
            self._carry_out(event, decided)
        promises.after(self, event, decided)
        if rows is not None:
            # What is committed is committed with all that was decided before it.
            committed = any(isinstance(command, (Grant, Create)) for command in decided)
            self._restart(self._rows() if committed else rows)

    def _handle_and_note(self, event: Event) -> list[Command]:
        lines = self.journal
        assert lines is not None
        try:
            decided = self.engine.handle(event, self.now)
        except Exception as error:
            lines.append(journal.encode_failed(event, self.now, error))
            raise
        lines.append(journal.encode(event, self.now, decided))
        return decided

    def _carry_out(self, event: Event, decided: list[Command]) -> None:
        seen = self.seen
        for command in decided:
            seen.add((type(command), command.cause))
            if isinstance(command, Note):
                continue
            if isinstance(command, Grant):
                promises.granted(self, event, command, decided)
                self._answer(command)
            elif isinstance(command, Create):
                promises.created(self, event, command)
                self._order(command.worker_id, "create")
            elif isinstance(command, (Destroy, Stop)):
                promises.ended(self, event, command)
                self._order(command.worker_id, "stop" if isinstance(command, Stop) else "destroy")
            elif isinstance(command, Start):
                promises.started(self, event, command)
                self._order(command.worker_id, "start")
            elif isinstance(command, Refuse):
                self.without_client(command.request_idx)

    def _answer(self, grant: Grant) -> None:
        client = self.clients.get(grant.request_idx)
        if client is None or client.stage is not model.CALLING:
            return
        usable_until = self.now + grant.expires_in_s
        self.set_client(Client(client.request_idx, model.GOING, True, grant.worker_id, usable_until, self.now))

    def _order(self, worker_id: int, verb: str) -> None:
        instance = self.instances.get(worker_id)
        if instance is None:
            instance = Instance(worker_id, model.ABSENT, made_at=self.now, ordered_at=self.now, heard_at=self.now)
        orders = instance.orders
        if not (orders and orders[-1] == verb):  # else it is being carried out
            orders = (*orders, verb)
        ending_at = self.now if verb in ("stop", "destroy") else -1000.0
        self.set_instance(instance._replace(orders=orders, ending_at=ending_at))

    # --------------------------------------------------------------------------------------------------------- values

    def set_instance(self, instance: Instance) -> None:
        """An instance is as this says."""
        self.instances = {**self.instances, instance.worker_id: instance}

    def without_instance(self, worker_id: int) -> None:
        """An instance is no more."""
        self.instances = {key: value for key, value in self.instances.items() if key != worker_id}

    def set_client(self, client: Client) -> None:
        """A client is as this says."""
        self.clients = {**self.clients, client.request_idx: client}

    def without_client(self, request_idx: int) -> None:
        """A client is done, or has gone."""
        self.clients = {key: value for key, value in self.clients.items() if key != request_idx}

    def fault(self) -> None:
        """Something goes wrong: one of the path's faults is used up."""
        self.faults -= 1
        self.calm = False

    # ------------------------------------------------------------------------------------------------------- restarts

    def restart(self) -> None:
        """The engine is killed, and started again with all that it wrote down."""
        self._restart(self._rows())

    def _rows(self) -> Restored:
        state = self.engine.state
        workers = [recovery.worker_record(state, worker_id) for worker_id in sorted(state.workers)]
        reservations = [recovery.reservation_record(state, idx) for idx in sorted(state.reservations)]
        return Restored(
            state.next_worker_id,
            tuple([row for row in workers if row is not None]),
            tuple([row for row in reservations if row is not None]),
        )

    def _restart(self, rows: Restored) -> None:
        self.kill = ""
        clients = {}
        for client in self.clients.values():
            if client.stage is model.CALLING:
                if not client.knows_number:
                    self.newcomers += 1  # it asks as if it came new
                    continue
                clients[client.request_idx] = client._replace(stage=model.BETWEEN)
            else:
                clients[client.request_idx] = client
        self.clients = clients
        self.instances = {
            key: value._replace(heard=False, announced=False, newest=0) for key, value in self.instances.items()
        }
        self.started_at = self.now
        self.restarted_at = self.now if rows.workers else -1000.0
        self.failed_at = self.pause_until = -1000.0  # the record of failures goes with the engine
        self.given = tuple([(row.request_idx, row.worker_id) for row in rows.reservations if row.worker_id])
        self._start_engine(rows)

    def _start_engine(self, rows: Restored | None) -> None:
        self.engine = Engine(CountedTimers())
        if self.journal is not None:
            self.journal.append(journal.begin(BEGUN_AS))
        self.handle(EndpointPut(ENDPOINT, "small", self.endpoint))
        self.handle(WorkergroupPut(self.scope.workergroup))
        if rows is not None:
            self.handle(rows)
