"""Orders to fleets: each is a task, and what the fleet answers, or fails to answer, comes back to the core."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from nullworker.core.commands import Create, Destroy, Start, Stop
from nullworker.core.events import InstanceExited
from nullworker.fleets.base import FleetError, PlaceFree, ShortageError
from nullworker.wire import tasks
from nullworker.wire.redaction import from_others
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from nullworker.core.driver import Order
    from nullworker.core.events import Event
    from nullworker.engine.shortages import Shortages
    from nullworker.fleets.base import EndsSoon, Fleet, Instance, InstanceSpec, Notice

log = logging.getLogger(__name__)

#: A fleet that has not answered for so long counts as failed; the next list shows what it did.
ANSWER_TIMEOUT_S = 600.0
#: A page is not kept waiting longer than this for a worker's log.
LOG_TIMEOUT_S = 5.0


class AnswerTaker(Protocol):
    """Takes what fleets answer and report (`nullworker.engine.driver.AsyncDriver`)."""

    def order_ended(
        self, worker_id: int, verb: str, error: str = "", *, definite: bool = True, short: bool = False
    ) -> None:
        """A fleet answers an order."""

    def report(self, event: Event) -> None:
        """Something happened."""

    def end_engine(self, sentence: str) -> None:
        """Something failed that the engine cannot do without."""


class FleetOrders:
    """Carries out the core's orders. Those to one worker are kept in order by its fleet (see its protocol)."""

    def __init__(
        self,
        fleets: Mapping[str, Fleet],
        spec_of: Callable[[Create], InstanceSpec],
        fleet_of: Callable[[int], str | None],
    ) -> None:
        """Takes the open fleets.

        Args:
            fleets: by their names.
            spec_of: makes what a fleet needs to create a worker.
            fleet_of: the name of a worker's fleet; None where there is no such worker.
        """
        self.fleets = dict(fleets)
        #: Set by the driver.
        self.driver: AnswerTaker | None = None
        self._spec_of = spec_of
        self._fleet_of = fleet_of
        self._tasks: set[asyncio.Task[None]] = set()
        #: Told of each call that has ended: fleet, what was asked, "ok", "refused" (certainly not done) or "unknown",
        #: and the seconds that it took.
        self.on_call: Callable[[str, str, str, float], object] = lambda _fleet, _op, _result, _seconds: None
        #: Told that an instance will be ended by its place.
        self.on_ends_soon: Callable[[EndsSoon], object] = lambda _: None
        #: Keeps which workergroups there is no place for; None: nothing does.
        self.shortages: Shortages | None = None

    def give(self, order: Order) -> None:
        """Begins to carry out an order."""
        verb = type(order).__name__.lower()
        task = tasks.watch(
            self._carry_out(order, verb), f"An order ({verb}, worker {order.worker_id})", self._lost_track
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, order: Order, verb: str) -> None:
        worker_id = order.worker_id
        why, definite, short = "", True, False
        name = order.fleet if isinstance(order, Destroy) else self._fleet_of(worker_id)
        began = asyncio.get_running_loop().time()
        try:
            await within(self._call(order, name), ANSWER_TIMEOUT_S)
        except FleetError as error:
            why, definite = str(error) or "the fleet gave no reason", error.definite
            short = isinstance(error, ShortageError) and isinstance(order, Create)
            if isinstance(order, Create) and short and self.shortages is not None:
                why = self.shortages.refused(order.workergroup_id, name or "", why)
        except asyncio.TimeoutError:
            why, definite = f"no answer for {ANSWER_TIMEOUT_S:g} s", False
        except Exception as error:
            log.exception("the fleet failed to %s worker %d", verb, worker_id)
            why, definite = f"{type(error).__name__}: {error}", False
        self._count(name, verb, "ok" if not why else "refused" if definite else "unknown", began)
        if self.driver is not None:
            self.driver.order_ended(worker_id, verb, why, definite=definite, short=short)
        if not why and self.shortages is not None:
            if isinstance(order, Create):
                self.shortages.created(order.workergroup_id)
            elif isinstance(order, (Stop, Destroy)):
                self.shortages.place_free(name or "")

    def _count(self, fleet: str | None, op: str, result: str, began: float) -> None:
        if fleet in self.fleets:  # else nothing was called
            self.on_call(fleet, op, result, asyncio.get_running_loop().time() - began)

    def _lost_track(self, sentence: str) -> None:
        if self.driver is not None:
            self.driver.end_engine(sentence)

    def _call(self, order: Order, name: str | None) -> Coroutine[object, object, None]:
        fleet = self.fleets.get(name or "")
        if fleet is None:
            raise FleetError(f"There is no fleet called {name!r}; name one of {', '.join(self.fleets)}.")
        if isinstance(order, Create):
            return fleet.create(self._spec_of(order))
        if isinstance(order, Start):
            return fleet.start(order.worker_id)
        if isinstance(order, Destroy):
            return fleet.destroy(order.worker_id)
        return fleet.stop(order.worker_id)

    def exited(self, worker_id: int, detail: str) -> None:
        """A fleet reports that an instance ended by itself."""
        if self.driver is not None:
            self.driver.report(InstanceExited(worker_id, from_others(detail)))

    def noticed(self, fleet: str, notice: Notice) -> None:
        """A fleet gives notice of something."""
        if isinstance(notice, PlaceFree):
            if self.shortages is not None:
                self.shortages.place_free(fleet)
        else:
            self.on_ends_soon(notice)

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """The end of a worker's log, of one that is gone as well; empty where no fleet has it, or tells in time.

        Args:
            worker_id: the worker.
            bytes_max: how much at most.
        """
        name = self._fleet_of(worker_id)
        for fleet in self.fleets.values() if name is None else filter(None, [self.fleets.get(name)]):
            try:
                found = await within(fleet.read_log(worker_id, bytes_max), LOG_TIMEOUT_S)
            except (FleetError, asyncio.TimeoutError) as error:
                log.warning("the log of worker %d cannot be shown: %s", worker_id, error or "no answer")
                continue
            if found:
                return found
        return b""

    async def list(self, name: str) -> list[Instance] | None:
        """A fleet's instances; None where it did not answer."""
        instances: list[Instance] | None = None
        began = asyncio.get_running_loop().time()
        try:
            instances = await within(self.fleets[name].list(), ANSWER_TIMEOUT_S)
        except (FleetError, asyncio.TimeoutError) as error:
            log.warning("fleet %s did not say what it has: %s", name, error)
        except Exception:
            log.exception("fleet %s failed to say what it has", name)
        self._count(name, "list", "unknown" if instances is None else "ok", began)
        return instances

    async def close(self, *, destroy: bool, only: Iterable[tuple[str, int]] = (), grace_s: float | None = None) -> None:
        """Closes the fleets; with ``destroy``, their instances are destroyed first.

        Args:
            destroy: whether instances are destroyed, or go on for the next start.
            only: fleets and ids of instances that are destroyed, where all others go on.
            grace_s: how long an instance may take to end by itself; None: as the fleet's settings say.

        Raises:
            BaseException: what a fleet raised that is no FleetError.
        """
        under_way = list(self._tasks)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        some = [self.fleets[name].destroy(worker_id) for name, worker_id in only if name in self.fleets]
        for error in await asyncio.gather(*some, return_exceptions=True):
            if isinstance(error, FleetError):
                log.error("%s", error)
        closing = [fleet.close(destroy=destroy, grace_s=grace_s) for fleet in self.fleets.values()]
        for error in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(error, FleetError):
                log.error("%s", error)
            elif isinstance(error, BaseException):
                raise error
