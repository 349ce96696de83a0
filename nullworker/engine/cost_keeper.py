"""Keeps what a running engine's workers cost: told of each change, written to a file by a thread."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from nullworker.core import views as core_views
from nullworker.engine.cost_file import CostFile, Group, Label
from nullworker.views import cost_tables
from nullworker.views.billing import Price, Rates, rates
from nullworker.views.cost_ledger import CostLedger
from nullworker.views.costs import HOUR_US, KINDS, US, amounts
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nullworker.core.engine import Engine
    from nullworker.views.history import Change
    from nullworker.views.types import CostRow, Costs

WRITE_S = 1.0
#: More than so much is written less often: what is new of one worker and hour is one row.
MUCH, MUCH_WRITTEN_S = 1_000, 10.0
#: The time of a worker that does not change is brought into an entry this often.
SETTLE_US = 60 * US
#: A view of costs is made again after so long, and after so many times the time that it took.
FRESH_S, WORK_PAUSES = 5.0, 20
#: Of more workers, what they cost is shown up to a minute late.
SETTLED_TO_SHOW = 1_000
#: A clock that is off by more than this was set.
CLOCK_SET_US = US
LABELS_MAX = 20_000

T = TypeVar("T")

log = logging.getLogger(__name__)


class _Made(NamedTuple):
    """A view, and until when it is shown."""

    fresh_until: float
    costs: Costs


class CostKeeper:
    """What workers cost, and what reservations are for."""

    def __init__(
        self,
        wall_s: Callable[[], float],
        core_now: Callable[[], float],
        price: Callable[[int, int], Price | None],
        file: CostFile | None = None,
    ) -> None:
        """Begins with nothing; `begin` follows once the core knows its workers.

        Args:
            wall_s: gives Unix time.
            core_now: gives the time of the core, by which durations are measured.
            price: what a worker of a workergroup costs; None: it is not known any more.
            file: where it is written, and what is open of it is closed by `close`; None: nowhere.
        """
        self._wall_s = wall_s
        self._core_now = core_now
        self._price = price
        self._file = file
        self._prices: dict[int, Price] = {}  # of each workergroup, as last known
        self._known_rates: dict[tuple[int, int, str], Rates] = {}  # of this second
        self._pool = ThreadPoolExecutor(1, "costs")
        self._writing: asyncio.Task[None] | None = None
        self._written_at_s = 0.0
        self._ahead_us = round((wall_s() - core_now()) * US)
        self._began_at = core_now()
        self._made: dict[tuple[str, int, int], _Made] = {}  # by what is asked for
        self._making = asyncio.Lock()
        self.ledger = CostLedger(self._rates)
        #: Units that were spent since this engine began, by endpoint and kind; brought up to date each minute.
        self.spent: Counter[tuple[int, str]] = Counter()
        #: What reservations are for, the latest last.
        self.labels: dict[int, Label] = {}

    # ------------------------------------------------------------------------------------------------------- taking in

    def changed(self, at: float, change: Change) -> None:
        """Takes in a change of the history, of the core's time ``at``: what one event changes has the same time."""
        self.ledger.change(round(at * US) + self._ahead_us, change)

    def begin(self, engine: Engine) -> None:
        """Takes over what engines before this one wrote, and all that the core knows."""
        now_us = self._now_us()
        if self._file is not None:
            known, alive_us = self._file.known()
            self.ledger.adopt(known, engine.state.workers, alive_us, now_us)
            self.labels = {label.request_idx: label for label in reversed(self._file.labels())}
        for worker in core_views.workers(engine):
            if worker.id in self.ledger.open:
                self.ledger.correct(worker.id, worker.state, worker.request_idxs)
                continue
            self.ledger.worker(now_us, worker.id, worker.state, worker.endpoint_id, worker.workergroup_id)
            for request_idx in worker.request_idxs:
                self.ledger.request(now_us, request_idx, worker.id)
        self._writing = tasks.watch(
            tasks.repeat(lambda: self.pass_time(engine), WRITE_S, "Keeping the costs"), "The costs"
        )

    async def label(self, labels: Iterable[Label]) -> list[Label]:
        """Keeps what reservations are for; returns those that are new or changed. What is "" leaves what is known."""
        changed = []
        for label in labels:
            known = self.labels.get(label.request_idx, Label(label.request_idx, "", ""))
            merged = Label(label.request_idx, label.queue or known.queue, label.job or known.job)
            if merged != known:
                self.labels.pop(label.request_idx, None)
                self.labels[label.request_idx] = merged
                changed.append(merged)
        while len(self.labels) > LABELS_MAX:
            del self.labels[next(iter(self.labels))]
        if changed and self._file is not None:
            await self._in_thread(self._file.label, changed, self._now_us() // HOUR_US)
        return changed

    async def pass_time(self, engine: Engine) -> None:
        """Brings some open time into entries, and writes what is new, if it is time."""
        set_by_us = round((self._wall_s() - self._core_now()) * US) - self._ahead_us
        if abs(set_by_us) > CLOCK_SET_US:
            self._ahead_us += set_by_us
            self.ledger.shift(set_by_us)
        for worker_id in [w.worker_id for w in self.ledger.open.values() if w.unheard_since_us is not None]:
            worker = core_views.worker(engine, worker_id)
            if worker is not None and self._core_now() - worker.reported_s_ago > self._began_at:
                self.ledger.heard(worker_id)
        now_us = self._now_us()
        self._known_rates.clear()
        self.ledger.settle(now_us, now_us - SETTLE_US)
        is_much = len(self.ledger.entries) + len(self.ledger.touched) > MUCH
        if not is_much or self._core_now() - self._written_at_s >= MUCH_WRITTEN_S:
            await self._write()

    async def _write(self) -> None:
        self._written_at_s = self._core_now()
        taken = self.ledger.take()
        is_new = any(taken) or self.ledger.open
        if self._file is not None and is_new and not await self._in_thread(self._file.write, taken, self._now_us()):
            self.ledger.give_back(taken)
            return
        for entry, us in taken.entries.items():
            for kind, units in zip(KINDS, amounts(entry.kind, us, entry.running, entry.storage), strict=False):
                self.spent[entry.endpoint_id, kind] += units

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _now_us(self) -> int:
        return round(self._core_now() * US) + self._ahead_us

    def _rates(self, worker_id: int, workergroup_id: int, state: str) -> Rates:
        key = worker_id, workergroup_id, state
        found = self._known_rates.get(key)
        if found is None:
            found = self._known_rates[key] = self._rates_now(worker_id, workergroup_id, state)
        return found

    def _rates_now(self, worker_id: int, workergroup_id: int, state: str) -> Rates:
        price = self._price(worker_id, workergroup_id)
        if price is None:
            price = self._prices.get(workergroup_id, Price())
        self._prices[workergroup_id] = price
        return rates(price, state)

    # --------------------------------------------------------------------------------------------------------- reading

    async def costs(self, by: str, since_s: float, name: Callable[[int], str], endpoint_id: int = 0) -> Costs:
        """What workers cost since a time.

        Args:
            by: what is in a row: "endpoint", "queue", "job", "day" or "worker".
            since_s: Unix time; the hour that it is in counts as a whole.
            name: gives an endpoint's name by its id ("": it is gone).
            endpoint_id: of this endpoint alone; 0: of all.
        """
        hour = max(0, int(since_s // 3600))
        key = by, hour, endpoint_id
        async with self._making:  # all pages that ask for it at once get the same
            made = self._made.get(key)
            if made is None or self._core_now() >= made.fresh_until:
                made = await self._make(key, name)
        return msgspec.structs.replace(made.costs, at_s=self._wall_s())

    async def _make(self, key: tuple[str, int, int], name: Callable[[int], str]) -> _Made:
        by, hour, endpoint_id = key
        began = self._core_now()
        if len(self.ledger.open) <= SETTLED_TO_SHOW:
            self.ledger.settle(self._now_us())
        names = {each: name(each) for each in {known.endpoint_id for known in self.ledger.open.values()}}
        groups = await self._groups(by, hour, ("endpoint", endpoint_id) if endpoint_id else ("", 0))
        if by == "endpoint":
            names |= {group.key: name(group.key) for group in groups}
        per_hour = self._per_hour(endpoint_id)
        arguments = by, groups, lambda number: names.get(number, ""), self._wall_s(), hour * 3600, per_hour
        view = await self._in_thread(cost_tables.costs, *arguments)
        now = self._core_now()
        made = _Made(now + max(FRESH_S, WORK_PAUSES * (now - began)), view)
        self._made = {**{k: each for k, each in self._made.items() if now < each.fresh_until}, key: made}
        return made

    async def of(self, about: tuple[str, int]) -> CostRow | None:
        """What one worker, or one reservation ("job"), cost in all; None: nothing is known of it."""
        kind, number = about
        self.ledger.settle_one(self._now_us(), **{"worker_id" if kind == "worker" else "request_idx": number})
        groups = await self._groups(kind, 0, about)
        return cost_tables.one_row(f"{'worker' if kind == 'worker' else 'request'} {number}", groups)

    async def _groups(self, by: str, hour: int, only: tuple[str, int]) -> list[Group]:
        if self._file is None:
            return []
        await self._write()
        return await self._in_thread(self._file.groups, by, hour, only)

    def _per_hour(self, endpoint_id: int) -> int:
        """What the workers of this moment cost in an hour, in units."""
        rates = [each.rates for each in self.ledger.open.values() if not endpoint_id or each.endpoint_id == endpoint_id]
        return HOUR_US * sum(running + storage for running, storage in rates)

    @property
    def complaint(self) -> str:
        """What is wrong with the file, in a sentence; "": nothing."""
        if self._file is None or not self._file.error:
            return ""
        return f"The costs cannot be written ({self._file.error}): they are kept in memory until they can be."

    async def close(self) -> None:
        """Writes what is left, and closes the file."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        self.ledger.settle(self._now_us())
        await self._write()
        self._pool.shutdown()
        if self._file is not None:
            self._file.close()
