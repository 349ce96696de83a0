"""The Vast fleet's verbs. One worker is one rented instance; a stopped one keeps its disk, and pays for it.

What is known of an instance: its record in the engine's state directory, and Vast's list of the account's instances,
which is asked for once for all workers and at most every ``instances_s`` seconds. The label of an instance has the
mark, the worker, and a number of the order that led to it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import os
import re
import secrets
from typing import TYPE_CHECKING

import msgspec

from nullworker.fleets.base import Fleet, FleetError, Instance, InstanceState, Resources, no_notice
from nullworker.fleets.keyed_queue import KeyedQueue
from nullworker.fleets.vast import box
from nullworker.fleets.vast.books import Books, wall_s
from nullworker.fleets.vast.market import Market
from nullworker.fleets.vast.offers import Wanted
from nullworker.fleets.vast.records import VastRecord, VastRecords
from nullworker.fleets.vast.rehearsal import rehearse
from nullworker.fleets.vast.renting import Renter, wanted_of
from nullworker.fleets.vast.rest import VastApi, VastError
from nullworker.fleets.vast.settings import read_key, read_settings
from nullworker.fleets.vast.settling import has_machine, has_stopped
from nullworker.fleets.vast.view import InstancesView
from nullworker.fleets.vast.watching import Watcher
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nullworker.fleets.base import InstanceSpec, Notice
    from nullworker.fleets.vast.renting import Rented
    from nullworker.fleets.vast.rows import Row
    from nullworker.fleets.vast.settings import VastSettings

log = logging.getLogger(__name__)

#: How often it is looked whether a view of Vast's instances is due.
WATCH_S = 1.0
#: A mark in a label is at most so long: Vast refuses long labels.
_MARK_CHARACTERS_MAX = 60


class VastFleet:
    """Workers on machines rented from Vast; see docs/fleets-vast.md."""

    def __init__(
        self,
        settings: VastSettings,
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        """Use `open`."""
        self._settings = settings
        self._prefix = f"nw-{_as_label(mark)}"
        self._api = VastApi(settings.url, read_key(settings, os.environ))
        self._kept = VastRecords(settings.state_dir, mark)
        self._books = Books(self._kept, settings.spend_per_day_max)
        pattern = re.compile(rf"{re.escape(self._prefix)}-(\d+)-[0-9a-f]{{8}}")
        self._view = InstancesView(self._api, pattern, settings.instances_s, settings.worker_port)
        market = Market(self._api, settings.offers_s, settings.price_per_hour_max, self._books.is_listed, wall_s)
        self._renter = Renter(self._api, market, self._view, self._books, self._kept, settings)
        self._queue = KeyedQueue()
        self._watcher = Watcher(
            self._api, self._view, self._kept, self._books, self._queue, settings, on_exit, on_notice
        )
        self._watching: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Mapping[str, object],
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None] = no_notice,
    ) -> VastFleet:
        """Asks Vast for the instances, and adopts what has ``mark``. See `Fleet.open` and `VastSettings`.

        Raises:
            FleetError: the settings are wrong, Vast refuses the key or does not answer, or the state directory cannot
                be used.
        """
        if not mark:
            raise FleetError("The Vast fleet needs a mark that is not empty.")
        fleet = cls(read_settings(settings), mark, on_exit, on_notice)
        try:
            await fleet._api.open()
            fleet._kept.load()
            fleet._books.load()
            await fleet._adopt()
        except BaseException:
            fleet._api.close()
            raise
        fleet._watcher.announced = {i for i, record in fleet._kept.by_worker.items() if record.stopped or record.ended}
        period_s = min(WATCH_S, fleet._settings.instances_s)
        fleet._watching = tasks.start(tasks.repeat(fleet._watcher.look, period_s, "Watching instances of Vast"))
        return fleet

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:  # noqa: ARG003 - see below
        """Takes every name that a folder can have: which there are, the repository on the machine says.

        Raises:
            FleetError: it is no name of a folder.
        """
        if not re.fullmatch(r"\w+", backend, re.ASCII):
            raise FleetError(f"The backend {backend!r} is no name of a folder in workers/: correct it.")

    @classmethod
    async def rehearse(cls, settings: Mapping[str, object], resources: Resources) -> str:
        """What would be rented now, and at what price. See `Rehearses.rehearse`.

        Raises:
            ShortageError: there is no offer that may be taken, or the day's money leaves no room for it.
            FleetError: the settings are wrong, or Vast refuses the key or does not answer.
        """
        return await rehearse(read_settings(settings), os.environ, resources)

    async def create(self, spec: InstanceSpec) -> None:
        """Rents a machine. See `Fleet.create`.

        Raises:
            ShortageError: there is no offer that may be taken, or the day's money leaves no room for it.
            FleetError: Vast refuses, or does not answer.
        """
        await self._enqueue(spec.worker_id, lambda: self._create(spec))

    async def start(self, worker_id: int) -> None:
        """Starts a stopped instance; where its machine is taken, another is rented in its place. See `Fleet.start`.

        Raises:
            ShortageError: there is none, or the day's money leaves no room for it.
            FleetError: there is no such instance, or as for `create`.
        """
        await self._enqueue(worker_id, lambda: self._start(worker_id))

    async def stop(self, worker_id: int) -> None:
        """Stops an instance; its disk stays, and is paid for. See `Fleet.stop`.

        Raises:
            FleetError: there is no such instance, or it does not stop.
        """
        await self._enqueue(worker_id, lambda: self._stop(worker_id))

    async def destroy(self, worker_id: int) -> None:
        """Ends the rent of a machine. See `Fleet.destroy`.

        Raises:
            FleetError: Vast does not answer.
        """
        await self._enqueue(worker_id, lambda: self._destroy(worker_id))

    async def list(self) -> list[Instance]:
        """All instances, by their records and Vast's list. See `Fleet.list`.

        Raises:
            FleetError: Vast does not answer.
        """
        self._check_open()
        await self._watcher.take(await self._view.view())
        return [
            self._listed(worker_id, record)
            for worker_id, record in sorted(self._kept.by_worker.items())
            if record.contract_id
        ]

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """The end of what an instance has printed; Vast keeps none of one that was destroyed. See `Fleet.read_log`.

        Raises:
            FleetError: Vast does not answer.
        """
        self._check_open()
        record = self._kept.by_worker.get(worker_id)
        if record is None or not record.contract_id or bytes_max <= 0:
            return b""
        return (await self._api.log_end(record.contract_id, min(10_000, max(50, bytes_max // 20))))[-bytes_max:]

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:  # noqa: ARG002 - Docker's own counts
        """Waits for the verbs under way. See `Fleet.close`; how long workers may take to end, Docker says."""
        if self._closing is None:
            self._closing = tasks.start(self._close(destroy=destroy))
        await asyncio.shield(self._closing)

    # ------------------------------------------------------------------------------------------------- each verb

    async def _create(self, spec: InstanceSpec) -> None:
        self._watcher.told(spec.worker_id)
        try:
            await self._rent(spec)
        finally:
            self._watcher.done(spec.worker_id)

    async def _rent(self, spec: InstanceSpec) -> None:
        """Rents a machine, unless the worker has one. Raises FleetError."""
        worker_id = spec.worker_id
        wanted = wanted_of(self._settings, spec.resources, worker_id)
        record = self._kept.by_worker.get(worker_id)
        if record is not None and (record.contract_id or await self._was_ordered(worker_id, record)):
            return
        record = self._kept.by_worker[worker_id] = VastRecord(
            label=self._new_label(worker_id),
            endpoint=spec.endpoint,
            workergroup_id=spec.workergroup_id,
            environment=box.environment(spec, self._settings),
            wanted=dataclasses.asdict(wanted),
        )
        try:
            self._kept.save(worker_id)
            rented = await self._renter.rent(record.label, wanted, record.environment)
        except FleetError as error:
            if error.definite:
                self._kept.remove(worker_id)
            raise
        self._has_rented(worker_id, record, rented)

    async def _was_ordered(self, worker_id: int, record: VastRecord) -> bool:
        """Whether an order whose answer was lost has led to an instance; if not, none is to be. Raises FleetError."""
        row = await self._row_of(record)
        if row is None:
            self._books.condemn(record.label)
            return False
        record.contract_id = row.contract_id
        self._kept.save(worker_id)
        return True

    async def _start(self, worker_id: int) -> None:
        record = self._known(worker_id, "started")
        if not record.stopped and not record.ended:
            return
        self._renter.check_cap(record.price_per_hour)
        self._watcher.told(worker_id)
        try:
            if await self._api.set_state(record.contract_id, "running") and await self._has_machine(record.contract_id):
                record.stopped, record.ended, record.has_run = False, "", False
                record.ordered_at = wall_s()
                self._kept.save(worker_id)
                self._watcher.announced.discard(worker_id)
            else:
                await self._replace(worker_id, record)
        except VastError as error:
            if error.status != 404:
                raise
            await self._replace(worker_id, record)
        finally:
            self._watcher.done(worker_id)

    async def _has_machine(self, contract_id: int) -> bool:
        """Whether a machine is found for an instance that was started; that there is none is its host's failure."""
        found = await has_machine(self._api, contract_id)
        if not found.has_machine:
            self._books.strike(found.machine_id)
        return found.has_machine

    async def _replace(self, worker_id: int, record: VastRecord) -> None:
        """Rents another machine in the place of one that an instance cannot be started on. Raises FleetError."""
        try:
            await self._api.set_state(record.contract_id, "stopped")  # else it would start when there is room
        except VastError as error:
            if error.status != 404:
                raise
        label, old = self._new_label(worker_id), record.contract_id
        if box.WORKER not in record.environment:
            raise FleetError(f"Worker {worker_id} cannot be started: what it was created with is lost. Destroy it.")
        plain = wanted_of(self._settings, Resources(), worker_id)
        wanted = msgspec.convert(record.wanted, Wanted) if record.wanted else plain
        record.environment.update(box.port_of(self._settings))  # Vast lists variables, and may not list ports
        self._watcher.ordered.add(label)
        try:
            rented = await self._renter.rent(label, wanted, record.environment)
        except FleetError as error:
            if not error.definite:
                self._books.condemn(label)
            raise
        finally:
            self._watcher.ordered.discard(label)
        self._books.condemn(record.label)
        record.label, record.stopped, record.ended = label, False, ""
        self._has_rented(worker_id, record, rented)
        await self._api.destroy(old)

    async def _stop(self, worker_id: int) -> None:
        record = self._known(worker_id, "stopped")
        before = record.stopped, record.ended, record.stopped_at
        self._watcher.announced.add(worker_id)
        record.stopped, record.ended = True, ""
        record.stopped_at = record.stopped_at if before[0] else wall_s()
        self._kept.save(worker_id)  # first: should the engine die in between, the end counts as no crash
        self._watcher.told(worker_id)
        try:
            await self._api.set_state(record.contract_id, "stopped")
            await has_stopped(self._api, worker_id, record.contract_id)
        except FleetError:
            record.stopped, record.ended, record.stopped_at = before
            self._kept.save(worker_id)
            raise
        finally:
            self._watcher.done(worker_id)

    async def _destroy(self, worker_id: int) -> None:
        record = self._kept.by_worker.get(worker_id)
        if record is None:
            return
        self._watcher.announced.add(worker_id)
        self._watcher.told(worker_id)
        try:
            if not record.contract_id:
                row = await self._row_of(record)
                record.contract_id = 0 if row is None else row.contract_id
            self._books.condemn(record.label)  # Vast may go on listing it, or list it only later
            if record.contract_id:
                await self._api.destroy(record.contract_id)
                self._books.condemn(record.label)  # from now on, a list that has it is wrong
            self._watcher.judge(record)
            self._kept.remove(worker_id)
        finally:
            self._watcher.done(worker_id)

    # ------------------------------------------------------------------------------------------------ what is known

    async def _adopt(self) -> None:
        """Takes in what Vast lists at the start, and gives up orders that have led to nothing. Raises FleetError."""
        await self._watcher.take(await self._view.view())
        for worker_id, record in list(self._kept.by_worker.items()):
            if not record.contract_id:
                self._books.condemn(record.label)
                self._kept.remove(worker_id)

    def _listed(self, worker_id: int, record: VastRecord) -> Instance:
        state, detail = InstanceState.RUNNING, ""
        if record.stopped:
            state = InstanceState.STOPPED
        elif record.ended:
            state, detail = InstanceState.EXITED, record.ended
        return Instance(
            worker_id,
            state,
            detail,
            self._watcher.addresses.get(worker_id, ""),
            record.endpoint,
            record.workergroup_id,
            record.price_per_hour,
            record.storage_price_per_hour,
        )

    def _has_rented(self, worker_id: int, record: VastRecord, rented: Rented) -> None:
        """Writes down what was rented. Raises FleetError."""
        offer = rented.offer
        record.contract_id, record.machine_id = rented.contract_id, offer.machine_id
        record.price_per_hour = max(0.0, offer.price_per_hour - offer.storage_per_hour)
        record.storage_price_per_hour = offer.storage_per_hour
        record.ordered_at, record.has_run = wall_s(), False
        self._watcher.announced.discard(worker_id)
        self._kept.save(worker_id)
        self._books.count(self._kept.rate_per_hour)

    async def _row_of(self, record: VastRecord) -> Row | None:
        """What Vast lists now under a record's label. Raises FleetError."""
        return (await self._view.view(newer_than=asyncio.get_running_loop().time())).labelled(record.label)

    # ------------------------------------------------------------------------------------------------ housekeeping

    def _new_label(self, worker_id: int) -> str:
        return f"{self._prefix}-{worker_id}-{secrets.token_hex(4)}"

    def _known(self, worker_id: int, participle: str) -> VastRecord:
        record = self._kept.by_worker.get(worker_id)
        if record is None or not record.contract_id:
            raise FleetError(f"Worker {worker_id} cannot be {participle}: the Vast fleet has no such instance.")
        return record

    async def _enqueue(self, worker_id: int, call: Callable[[], Coroutine[None, None, None]]) -> None:
        self._check_open()
        await self._queue.run(worker_id, call)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise FleetError("The Vast fleet is closed.")

    async def _close(self, *, destroy: bool) -> None:
        self._watcher.close()
        try:
            if self._watching is not None:
                self._watching.cancel()
            await self._queue.wait_idle()
            if destroy:
                await self._destroy_all()
            self._books.count(self._kept.rate_per_hour)
        finally:
            self._view.close()
            self._api.close()

    async def _destroy_all(self) -> None:
        ending = [self._destroy(worker_id) for worker_id in list(self._kept.by_worker)]
        failures = [each for each in await asyncio.gather(*ending, return_exceptions=True) if each is not None]
        for failure in failures:
            if not isinstance(failure, FleetError):
                raise failure
        if failures:
            raise FleetError(f"{len(failures)} of {len(ending)} workers could not be destroyed: {failures[0]}")


def _as_label(mark: str) -> str:
    """A mark as part of a label."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", mark)[:_MARK_CHARACTERS_MAX]
    return plain if plain == mark else f"{plain}.{hashlib.sha256(mark.encode()).hexdigest()[:8]}"


_: type[Fleet] = VastFleet
