"""Offers of machines: one search for all workers of a kind, kept for a while, and never more than Vast allows."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import FleetError, ShortageError
from nullworker.fleets.vast import wording
from nullworker.fleets.vast.offers import any_of_gpu, choose, query_of
from nullworker.fleets.vast.rest import VastError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.fleets.vast.offers import Choice, Offer, Wanted
    from nullworker.fleets.vast.rest import VastApi

log = logging.getLogger(__name__)

#: So many searches a minute, by Vast's own limit.
SEARCHES_MAX, SEARCHES_S = 10, 60.0
#: Where no new search can be made, an older one serves for so long.
STALE_S = 600.0
#: How long it is believed that there is no GPU of a name.
NO_SUCH_GPU_S = 600.0


@dataclass(slots=True)
class _Search:
    """What a search answered."""

    at: float  # of the event loop's clock
    rows: list[Any]


class Market:
    """What Vast offers."""

    def __init__(
        self,
        api: VastApi,
        offers_s: float,
        price_max: float,
        is_listed: Callable[[int], bool],
        wall_s: Callable[[], float],
    ) -> None:
        """Takes what it uses.

        Args:
            api: is asked.
            offers_s: how old a search may be.
            price_max: the price cap, in dollars an hour.
            is_listed: whether a machine, by its id, is on the black list.
            wall_s: Unix time.
        """
        self._api = api
        self._offers_s = offers_s
        self._price_max = price_max
        self._is_listed = is_listed
        self._wall_s = wall_s
        self._searches: dict[Wanted, _Search] = {}
        self._absent: dict[str, float] = {}  # names of GPUs that there are none of, and when that was found
        self._asked: deque[float] = deque(maxlen=SEARCHES_MAX)
        self._no_searches_until = 0.0  # Unix time
        self._taken: set[int] = set()  # offers that were taken or are gone
        self._asking = asyncio.Lock()

    async def choice(self, wanted: Wanted) -> Choice:
        """The offers for a kind of machine, the best first.

        Raises:
            ShortageError: there are none that may be taken.
            FleetError: Vast refuses the search, or does not answer.
        """
        async with self._asking:  # the first of several at once searches for all
            rows = await self._rows(wanted)
            found, used = self._chosen(rows, wanted)
            if used and not found.offers:  # all that were found then: there may be more behind them
                rows = await self._rows(wanted, is_used_up=True)
                found, _ = self._chosen(rows, wanted)
            if found.offers:
                return found
            if not rows and wanted.gpu_name and await self._is_absent(wanted):
                raise ShortageError(wording.no_such_gpu(wanted))
            raise ShortageError(wording.nothing_offered(wanted, found.dropped, found.cheapest_over, self._price_max))

    def _chosen(self, rows: list[Any], wanted: Wanted) -> tuple[Choice, int]:
        """The offers among a search's that are left, and how many are not as they were taken."""
        found = choose(rows, wanted, self._price_max, lambda offer: self._is_listed(offer.machine_id))
        left = [offer for offer in found.offers if offer.offer_id not in self._taken]
        used = len(found.offers) - len(left)
        found.offers[:] = left
        return found, used

    def taken(self, offer: Offer) -> None:
        """An offer was taken, or is not there any more."""
        self._taken.add(offer.offer_id)

    async def _rows(self, wanted: Wanted, *, is_used_up: bool = False) -> list[Any]:
        """What the search for a kind of machine answers. Raises FleetError.

        Args:
            wanted: the kind.
            is_used_up: all that the latest search found were taken, so that it does not serve again.
        """
        now = asyncio.get_running_loop().time()
        kept = self._searches.get(wanted)
        if kept is not None and now - kept.at < self._offers_s and not is_used_up:
            return kept.rows
        try:
            rows = await self._search(query_of(wanted))
        except FleetError as error:
            if kept is None or now - kept.at > STALE_S or (isinstance(error, VastError) and error.status != 429):
                raise
            log.warning("offers of %.0f s ago are used: %s", now - kept.at, error)
            return kept.rows
        if not is_used_up:  # else what was taken a moment ago may still be listed
            self._taken.clear()
        self._searches[wanted] = _Search(now, rows)
        return rows

    async def _search(self, query: dict[str, Any]) -> list[Any]:
        """One search, if one may be made. Raises FleetError."""
        now = asyncio.get_running_loop().time()
        if self._wall_s() < self._no_searches_until:
            raise ShortageError(wording.quota_of_searches(_shown(self._no_searches_until)))
        if len(self._asked) == SEARCHES_MAX and now - self._asked[0] < SEARCHES_S:
            raise ShortageError(
                f"Vast was asked for offers {SEARCHES_MAX} times in the last minute, and takes no more."
            )
        self._asked.append(now)
        try:
            return await self._api.search(query)
        except VastError as error:
            if error.code == "search_quota_exceeded":
                self._no_searches_until = _next_midnight(self._wall_s())
                raise ShortageError(wording.quota_of_searches(_shown(self._no_searches_until))) from error
            if error.status == 429:
                raise ShortageError(f"{str(error).rstrip('.')}; it is tried again later.") from error
            raise
        except FleetError as error:
            raise FleetError(str(error)) from error  # whatever became of the search, nothing was rented

    async def _is_absent(self, wanted: Wanted) -> bool:
        """Whether Vast has no machine at all with a GPU of that name. Raises FleetError."""
        now = asyncio.get_running_loop().time()
        found_at = self._absent.get(wanted.gpu_name)
        if found_at is not None and now - found_at < NO_SUCH_GPU_S:
            return True
        if await self._search(any_of_gpu(wanted)):
            return False
        self._absent[wanted.gpu_name] = now
        return True


def _next_midnight(now: float) -> float:
    """When the next day of UTC begins."""
    return now - now % 86_400.0 + 86_400.0


def _shown(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.timezone.utc).strftime("%H:%M UTC")
