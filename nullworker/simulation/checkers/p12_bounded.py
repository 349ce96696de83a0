"""P12: creates per reservation, orders per second and changes of direction have bounds; failures are retried slower."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nullworker.core import events
from nullworker.core.commands import Create, Destroy, Stop
from nullworker.simulation.watch import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.process import Process, Session
    from nullworker.simulation.world import World

#: A workergroup of which nothing becomes ready is tried so often in `FAILING_WINDOW_S`: three waves of all that are
#: wanted, and then one at a time with growing pauses.
FAILING_WINDOW_S = 300.0
FAILING_TRIES = 14
SAME_ORDER_S = 1.0
SLACK_S = 0.5


class Bounded(Checker):
    """Counts creations while nothing becomes ready, the same order given again, and workers that go too young."""

    promise = "P12"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._creates: dict[int, deque[float]] = {}
        self._free_since: dict[int, float] = {}
        self._last_order: dict[tuple[str, int], float] = {}
        self._put_at = 0.0

    def engine_started(self) -> None:
        self._creates.clear()  # the record of failures is the engine's own, and goes with it
        self._last_order.clear()

    def session_opened(self, process: Process, session: Session) -> None:  # noqa: ARG002 - a hook
        self._free_since.pop(process.worker_id, None)

    def session_closed(self, process: Process, session: Session, why: str) -> None:  # noqa: ARG002 - a hook
        if not session.by_old_grant:
            self._free_since[process.worker_id] = self.world.box.clock

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if isinstance(
            event, (events.EndpointPut, events.EndpointDeleted, events.WorkergroupPut, events.WorkersUpdated)
        ):
            self._put_at = self.world.box.clock
            self._creates.clear()
        for command in decided:
            if isinstance(command, Create):
                self._created(engine, command)
            elif isinstance(command, (Stop, Destroy)):
                self._ended(engine, command)
        if isinstance(event, events.WorkerReported) and event.ready:
            worker = engine.ledger.workers.get(event.worker_id)
            if worker is not None:
                self._creates.pop(worker.group.spec.workergroup_id, None)

    def _created(self, engine: Engine, command: Create) -> None:
        recent = self._creates.setdefault(command.workergroup_id, deque())
        now = self.world.box.clock
        recent.append(now)
        while recent and recent[0] < now - FAILING_WINDOW_S:
            recent.popleft()
        endpoint_id = engine.ledger.groups[command.workergroup_id].spec.endpoint_id
        most = 3 * self.world.box.endpoints[endpoint_id][1].max_workers + FAILING_TRIES
        self.require(
            len(recent) <= most,
            f"workergroup {command.workergroup_id} had {len(recent)} creations in {FAILING_WINDOW_S:g} s, and no "
            "worker became ready",
        )

    def _ended(self, engine: Engine, command: Stop | Destroy) -> None:
        key = (type(command).__name__, command.worker_id)
        now = self.world.box.clock
        before = self._last_order.get(key)
        worker = engine.ledger.workers.get(command.worker_id)
        if before is not None and worker is not None and not self.world.clock_was_changed:
            self.require(
                now - before >= SAME_ORDER_S,
                f"{key[0]} of worker {command.worker_id} is ordered again after {now - before:.2f} s",
            )
        self._last_order[key] = now
        since = self._free_since.get(command.worker_id)
        if worker is None or since is None or not command.reason.startswith("free for") or worker.spare:
            return
        idle_s = self.world.box.endpoints[worker.group.spec.endpoint_id][1].idle_s
        self.require(
            now - since >= idle_s - SLACK_S or self._put_at > since or self.world.clock_was_changed,
            f"worker {command.worker_id} goes after {now - since:.2f} s, and inactivity_timeout is {idle_s:g} s",
        )
