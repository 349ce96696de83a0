"""What the fleet would rent now, and at what price: asks Vast as the fleet does, and rents and writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.fleets.base import ShortageError
from nullworker.fleets.vast import wording
from nullworker.fleets.vast.books import wall_s
from nullworker.fleets.vast.market import Market
from nullworker.fleets.vast.renting import wanted_of
from nullworker.fleets.vast.rest import VastApi
from nullworker.fleets.vast.settings import read_key
from nullworker.fleets.vast.spend import Spend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nullworker.fleets.base import Resources
    from nullworker.fleets.vast.settings import VastSettings


async def rehearse(settings: VastSettings, environ: Mapping[str, str], resources: Resources) -> str:
    """A sentence that says what would be rented.

    Args:
        settings: of the fleet.
        environ: the environment, for the key.
        resources: what the worker needs.

    Raises:
        ShortageError: there is no offer that may be taken, or the day's money leaves no room for it.
        FleetError: the key is wrong, or Vast does not answer.
    """
    wanted = wanted_of(settings, resources, 0)
    api = VastApi(settings.url, read_key(settings, environ))
    try:
        await api.open()
        await api.instances()  # the search itself takes any key
        market = Market(api, settings.offers_s, settings.price_per_hour_max, lambda _: False, wall_s)
        choice = await market.choice(wanted)
    finally:
        api.close()
    best = choice.offers[0]
    spend = Spend()
    if not spend.takes(settings.spend_per_day_max, best.price_per_hour):
        raise ShortageError(wording.spend_cap(0.0, settings.spend_per_day_max, best.price_per_hour))
    return wording.would_rent(wanted, best, len(choice.offers), settings.spend_per_day_max)
