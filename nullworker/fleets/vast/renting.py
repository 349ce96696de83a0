"""Rents one machine for a worker: takes the best offer, then the next, and finds out what became of a lost answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import FleetError, Resources, ShortageError
from nullworker.fleets.vast import wording
from nullworker.fleets.vast.box import onstart
from nullworker.fleets.vast.offers import Wanted
from nullworker.fleets.vast.rest import VastError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nullworker.fleets.vast.books import Books
    from nullworker.fleets.vast.market import Market
    from nullworker.fleets.vast.offers import Offer
    from nullworker.fleets.vast.records import VastRecords
    from nullworker.fleets.vast.rest import VastApi
    from nullworker.fleets.vast.settings import VastSettings
    from nullworker.fleets.vast.view import InstancesView

log = logging.getLogger(__name__)

#: So many offers are tried for one worker before it counts as a shortage.
OFFERS_TRIED = 5
#: For how long an instance is looked for whose order was not answered, and how often.
LOST_S, LOST_POLL_S = 20.0, 2.0
#: What a workergroup may ask for by labels.
LABELS = ("gpu_name", "region")


def wanted_of(settings: VastSettings, resources: Resources, worker_id: int) -> Wanted:
    """The kind of machine that a worker needs.

    Args:
        settings: of the fleet, for what the workergroup does not say.
        resources: what the workergroup says.
        worker_id: the worker.

    Raises:
        FleetError: Vast cannot place by something that it asks for.
    """
    unknown = next((name for name in resources.labels if name not in LABELS), None)
    if unknown is not None:
        raise FleetError(
            f"Worker {worker_id} was not created: the label {unknown!r} means nothing to Vast, which knows "
            f"{' and '.join(LABELS)}."
        )
    if resources.gpus == 0:
        raise FleetError(f"Worker {worker_id} was not created: Vast rents no machine without a GPU; leave gpus out.")
    region = resources.labels.get("region")
    return Wanted(
        gpus=settings.gpus_per_worker if resources.gpus is None else resources.gpus,
        gpu_name=resources.labels.get("gpu_name", settings.gpu_name),
        gpu_ram_gb=settings.gpu_ram_gb,
        cpus=settings.cpus if resources.cpus is None else resources.cpus,
        memory_gb=settings.memory_gb if resources.memory_gb is None else resources.memory_gb,
        disk_gb=settings.disk_gb,
        regions=(region,) if region else tuple(settings.regions),
        reliability_min=settings.reliability_min,
        verified=settings.verified,
        interruptible=settings.interruptible,
        bid_per_hour=settings.bid_per_hour,
    )


@dataclass(frozen=True, slots=True)
class Rented:
    """A machine that was rented."""

    contract_id: int
    offer: Offer


class Renter:
    """Rents machines."""

    def __init__(
        self,
        api: VastApi,
        market: Market,
        view: InstancesView,
        books: Books,
        records: VastRecords,
        settings: VastSettings,
    ) -> None:
        """Takes what it uses."""
        self._api = api
        self._market = market
        self._view = view
        self._books = books
        self._records = records
        self._settings = settings
        self._ordered_per_hour = 0.0  # of orders that are under way, in dollars

    def check_cap(self, more_per_hour: float) -> None:
        """Whether something more may run today.

        Args:
            more_per_hour: what it costs, in dollars.

        Raises:
            ShortageError: the cap leaves no room for it.
        """
        self._books.check_cap(self._records.rate_per_hour, self._ordered_per_hour + more_per_hour)

    async def best(self, wanted: Wanted) -> Offer:
        """The offer that would be taken.

        Args:
            wanted: the kind of machine.

        Raises:
            ShortageError: there is none, or the day's money leaves no room for it.
            FleetError: Vast does not answer.
        """
        offer = (await self._market.choice(wanted)).offers[0]
        self.check_cap(offer.price_per_hour)
        return offer

    async def rent(self, label: str, wanted: Wanted, environment: Mapping[str, str]) -> Rented:
        """Rents a machine.

        Args:
            label: of this order, and of no other.
            wanted: the kind of machine.
            environment: what its worker gets.

        Raises:
            ShortageError: there is none now.
            FleetError: Vast refuses, or did not answer and has no instance with the label yet.
        """
        refusal: VastError | None = None
        for _ in range(OFFERS_TRIED):
            offer = await self.best(wanted)
            self._market.taken(offer)
            self._ordered_per_hour += offer.price_per_hour
            try:
                return Rented(await self._api.rent(offer.offer_id, self._terms(label, offer, environment)), offer)
            except VastError as error:
                if not _is_of_this_offer(error):
                    raise _as_shortage(error) from error
                refusal = error
                log.info("offer %d of machine %d is gone: %s", offer.offer_id, offer.machine_id, error)
            except FleetError as error:
                if error.definite:
                    raise
                return await self._find(label, offer, error)
            finally:
                self._ordered_per_hour -= offer.price_per_hour
        raise ShortageError(
            f"Vast has no offer of {wording.asked_for(wanted)} left: the best {OFFERS_TRIED} are gone "
            f"({wording.quoted(refusal)})."
        )

    async def _find(self, label: str, offer: Offer, error: FleetError) -> Rented:
        """The instance that an order led to whose answer was lost. Raises FleetError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            try:
                row = (await self._view.view(newer_than=loop.time())).labelled(label)
            except FleetError as not_listed:
                log.warning("an order was not answered, and instances are not listed: %s", not_listed)
                row = None
            if row is not None:
                return Rented(row.contract_id, offer)
            if loop.time() - began >= LOST_S:
                raise error
            await asyncio.sleep(LOST_POLL_S)

    def _terms(self, label: str, offer: Offer, environment: Mapping[str, str]) -> dict[str, Any]:
        """What an offer is taken with, as the package's function takes it."""
        return {
            "image": self._settings.image,
            "disk": self._settings.disk_gb,
            "env": dict(environment),
            "price": offer.bid_per_hour or None,
            "label": label,
            "onstart_cmd": onstart(),
            "runtype": "ssh",
            "cancel_unavail": True,
        }


def _is_of_this_offer(error: VastError) -> bool:
    """Whether another offer may be taken after a refusal."""
    return error.code == "no_such_ask" or error.status in (404, 410) or "blacklist" in str(error).lower()


def _as_shortage(error: VastError) -> FleetError:
    """Too many calls are a shortage: they pass by themselves."""
    return ShortageError(str(error)) if error.status == 429 else error
