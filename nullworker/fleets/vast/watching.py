"""What becomes of instances that no one has told to: ends, resumptions, strays, and those that were stopped for long.

`Watcher.take` takes Vast's list in; `Watcher.look` does so now and then, and announces what it found.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING

from nullworker.fleets.base import EndsSoon, FleetError
from nullworker.fleets.vast import box
from nullworker.fleets.vast.books import wall_s
from nullworker.fleets.vast.records import VastRecord
from nullworker.fleets.vast.rows import Phase, phase_of, why_ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.fleets.base import Notice
    from nullworker.fleets.keyed_queue import KeyedQueue
    from nullworker.fleets.vast.books import Books
    from nullworker.fleets.vast.records import VastRecords
    from nullworker.fleets.vast.rest import VastApi
    from nullworker.fleets.vast.rows import Row
    from nullworker.fleets.vast.settings import VastSettings
    from nullworker.fleets.vast.view import Instances, InstancesView

log = logging.getLogger(__name__)

#: For so long after a start, a container that does not run is one that is about to.
BEGINS_S = 120.0
#: A host that Vast has not heard of for so long has failed; until then its worker's own reports say whether it lives.
OFFLINE_S = 300.0
#: An instance that has not run so long after it was ordered, and is destroyed, is its host's failure.
SLOW_S = 300.0
#: So long before the end of an offer its worker gets nothing new.
NOTICE_S = 900.0


class Watcher:
    """Compares records with Vast's list."""

    def __init__(
        self,
        api: VastApi,
        view: InstancesView,
        records: VastRecords,
        books: Books,
        queue: KeyedQueue,
        settings: VastSettings,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None],
    ) -> None:
        """Takes what it uses; see `Fleet.open` for the last two."""
        self._api = api
        self._view = view
        self._records = records
        self._books = books
        self._queue = queue
        self._settings = settings
        self._on_exit = on_exit
        self._on_notice = on_notice
        #: Workers whose end needs no announcing.
        self.announced: set[int] = set()
        #: Labels of orders that are under way, and of no record.
        self.ordered: set[str] = set()
        #: Where workers are reached, by their numbers.
        self.addresses: dict[int, str] = {}
        self._believed_from: dict[int, float] = {}  # by worker: what was asked for earlier says nothing of it
        self._offline_since: dict[int, float] = {}
        self._noticed: set[int] = set()  # contracts whose end was given notice of
        self._dear: set[int] = set()  # contracts whose price was told of
        self._is_closed = False

    def told(self, worker_id: int) -> None:
        """A verb for a worker is under way: what Vast lists meanwhile says nothing of it."""
        self._believed_from[worker_id] = float("inf")

    def done(self, worker_id: int) -> None:
        """The verb has ended."""
        if worker_id in self._records.by_worker:
            self._believed_from[worker_id] = asyncio.get_running_loop().time()
        else:
            self._believed_from.pop(worker_id, None)
            self.addresses.pop(worker_id, None)
            self._offline_since.pop(worker_id, None)

    def close(self) -> None:
        """Nothing is announced any more."""
        self._is_closed = True

    async def look(self) -> None:
        """Takes a list in where that is due, announces ends, and ends what was stopped for too long."""
        records = self._records.by_worker
        self._books.count(self._records.rate_per_hour)
        if records or self._books.has_condemned:
            try:
                await self.take(await self._view.view())
            except FleetError as error:
                log.warning("Vast does not list the instances: %s", error)
        for worker_id, record in list(records.items()):
            if record.ended and worker_id not in self.announced and not self._is_closed:
                self.announced.add(worker_id)
                try:
                    self._on_exit(worker_id, record.ended)
                except Exception:
                    log.exception("The callback for the end of worker %d failed.", worker_id)
            if record.stopped and record.contract_id and self._is_old(record):
                self._queue.submit(worker_id, functools.partial(self._end_old, worker_id, record))

    def _is_old(self, record: VastRecord) -> bool:
        return wall_s() - record.stopped_at > self._settings.stopped_age_max_s

    async def _end_old(self, worker_id: int, record: VastRecord) -> None:
        """Destroys an instance that was stopped for too long, if it still is."""
        if self._records.by_worker.get(worker_id) is not record or not record.stopped or not self._is_old(record):
            return
        try:
            await self._api.destroy(record.contract_id)
            self._books.condemn(record.label)
        except FleetError as error:
            log.warning("worker %d was stopped for too long, and cannot be destroyed: %s", worker_id, error)
            return
        days = self._settings.stopped_age_max_s / 86_400
        record.stopped, record.ended = (
            False,
            f"it was stopped for over {days:g} days, and destroyed to save its storage",
        )
        record.price_per_hour = record.storage_price_per_hour = 0.0
        self.announced.discard(worker_id)

    # ------------------------------------------------------------------------------------------------- Vast's list

    async def take(self, view: Instances) -> None:
        """Takes in what Vast lists. Raises FleetError."""
        await self._sort_out(view)
        for worker_id, record in list(self._records.by_worker.items()):
            if view.asked_at <= self._believed_from.get(worker_id, float("-inf")):
                continue
            row = view.by_id.get(record.contract_id) if record.contract_id else view.labelled(record.label)
            if row is not None:
                await self._compare(worker_id, record, row, view.asked_at)
            elif record.contract_id and not record.ended:
                await self._look_for(worker_id, record)

    async def _sort_out(self, view: Instances) -> None:
        """Adopts what has the mark and no record, and destroys what is not to be. Raises FleetError."""
        for row in view.by_id.values():
            worker_id = self._view.worker_of(row.label)
            record = self._records.by_worker.get(worker_id)
            if view.asked_at <= self._believed_from.get(worker_id, float("-inf")):
                continue
            if self._books.is_condemned(row.label):
                if not self._books.is_condemned(row.label, view.asked_at):
                    continue  # the list is older than its end
                self._books.condemn(row.label)
                log.warning("instance %d (%s) is there, and is not to be: destroyed", row.contract_id, row.label)
                await self._api.destroy(row.contract_id)
            elif row.label in self.ordered or (record is not None and record.label == row.label):
                continue
            elif record is not None:
                log.warning("instance %d is a second one of worker %d: destroyed", row.contract_id, worker_id)
                self._books.condemn(row.label)
                await self._api.destroy(row.contract_id)
            else:
                self._records.by_worker[worker_id] = _adopted(row)
                self._records.save(worker_id)

    async def _look_for(self, worker_id: int, record: VastRecord) -> None:
        """An instance is not on the list: so much is not believed of a list alone. Raises FleetError."""
        contract_id = record.contract_id
        if await self._api.instance(contract_id) is not None:
            return
        if record.contract_id == contract_id and self._records.by_worker.get(worker_id) is record:
            record.stopped, record.ended = False, "its instance is gone (someone has destroyed it, or it has itself)"
            record.price_per_hour = record.storage_price_per_hour = 0.0
            self._records.save(worker_id)

    async def _compare(self, worker_id: int, record: VastRecord, row: Row, asked_at: float) -> None:
        """Takes in what Vast says of one instance. Raises FleetError."""
        before = (record.contract_id, record.machine_id, record.price_per_hour, record.has_run, record.ended)
        phase = phase_of(row)
        record.contract_id = row.contract_id
        self.addresses[worker_id] = row.address
        record.machine_id = row.machine_id or record.machine_id
        if row.price_per_hour is not None and not record.stopped and not record.ended:
            record.price_per_hour = row.price_per_hour
        if row.storage_price_per_hour is not None:
            record.storage_price_per_hour = row.storage_price_per_hour
        if phase is Phase.RUNS:
            record.has_run = True
            self._give_notice(worker_id, row)
            self._look_at_price(worker_id, record)
        if record.stopped or record.ended:
            if row.intended_status == "running" and phase in (Phase.RUNS, Phase.COMING, Phase.SCHEDULED):
                self._queue.submit(worker_id, lambda: self._hold(worker_id, record))
        else:
            record.ended = self._end_of(worker_id, record, row, phase, asked_at)
            if record.ended:
                if phase is not Phase.SCHEDULED and row.intended_status == "running":
                    self._books.strike(record.machine_id)
                self._queue.submit(worker_id, lambda: self._hold(worker_id, record))
        if before != (record.contract_id, record.machine_id, record.price_per_hour, record.has_run, record.ended):
            self._records.save(worker_id)

    def _end_of(self, worker_id: int, record: VastRecord, row: Row, phase: Phase, asked_at: float) -> str:
        """How an instance has ended by itself; "": it has not."""
        if phase is Phase.OFFLINE:
            since = self._offline_since.setdefault(worker_id, asked_at)
            return why_ended(row) if asked_at - since >= OFFLINE_S else ""
        self._offline_since.pop(worker_id, None)
        if phase not in (Phase.HALTED, Phase.SCHEDULED):
            return ""
        is_new = not record.has_run and wall_s() - record.ordered_at < BEGINS_S
        return "" if is_new and row.intended_status != "stopped" else why_ended(row)

    async def _hold(self, worker_id: int, record: VastRecord) -> None:
        """Has an instance that is to be still not be resumed by Vast: it would be a second worker of its number."""
        if self._records.by_worker.get(worker_id) is not record or not (record.stopped or record.ended):
            return
        try:
            await self._api.set_state(record.contract_id, "stopped")
        except FleetError as error:
            log.warning("the instance of worker %d cannot be held: %s", worker_id, error)

    def _give_notice(self, worker_id: int, row: Row) -> None:
        left_s = None if row.ends_at is None else row.ends_at - wall_s()
        if left_s is not None and left_s <= NOTICE_S and row.contract_id not in self._noticed and not self._is_closed:
            self._noticed.add(row.contract_id)
            self._on_notice(EndsSoon(worker_id, max(0.0, left_s), "its host offers the machine no longer"))

    def _look_at_price(self, worker_id: int, record: VastRecord) -> None:
        """Tells once of a price that was raised over the cap: what runs goes on."""
        cap, price = self._settings.price_per_hour_max, record.price_per_hour + record.storage_price_per_hour
        if price > cap * 1.01 and record.contract_id not in self._dear:
            self._dear.add(record.contract_id)
            log.warning("worker %d costs $%.3f/h now, over price_per_hour_max $%g", worker_id, price, cap)

    def judge(self, record: VastRecord) -> None:
        """An instance is destroyed: one that took too long to run is its host's failure. Raises FleetError."""
        if record.contract_id and not record.has_run and not record.stopped and wall_s() - record.ordered_at > SLOW_S:
            self._books.strike(record.machine_id)


def _adopted(row: Row) -> VastRecord:
    """A record of an instance whose record is lost, by what Vast lists."""
    workergroup = row.environment.get(box.WORKERGROUP, "")
    phase = phase_of(row)
    is_halted = phase is Phase.HALTED and row.intended_status == "stopped"
    return VastRecord(
        label=row.label,
        contract_id=row.contract_id,
        endpoint=row.environment.get(box.ENDPOINT, ""),
        workergroup_id=int(workergroup) if workergroup.isascii() and workergroup.isdigit() else 0,
        environment=dict(row.environment),
        machine_id=row.machine_id,
        price_per_hour=row.price_per_hour or 0.0,
        storage_price_per_hour=row.storage_price_per_hour or 0.0,
        has_run=True,
        stopped=is_halted,
        stopped_at=wall_s() if is_halted else 0.0,
    )
