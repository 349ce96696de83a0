"""What a dispatcher is told, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.dispatch.money import Budget
from nullworker.dispatch.pair import PairSettings, without_password
from nullworker.queues.base import QueueError
from nullworker.queues.registry import adapter

if TYPE_CHECKING:
    from collections.abc import Callable

AMOUNT_MAX = 1e6  # of money


class SettingsError(Exception):
    """What a dispatcher is told cannot be; the message is one sentence that names what is wrong."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """All that a dispatcher is told."""

    pairs: tuple[PairSettings, ...]
    instance: str = "local"
    cap: int | None = None
    budget: Budget = field(default_factory=Budget)
    history: str = ""


def check_settings(settings: DispatchSettings, where: str = "") -> DispatchSettings:
    """The same settings, if they make sense together.

    Raises:
        SettingsError: they do not.
    """
    names = [pair.name for pair in settings.pairs]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise SettingsError(f"{where}the queue {twice} is there twice; name it once for an endpoint.")
    for name, amount in (("max_hourly", settings.budget.hourly), ("max_daily", settings.budget.daily)):
        if amount is not None and not 0 <= amount <= AMOUNT_MAX:
            raise SettingsError(f"{where}{name} is {amount:g}, and must be from 0 to {AMOUNT_MAX:g}.")
    if settings.budget and not all(pair.price_per_hour for pair in settings.pairs):
        raise SettingsError(f"{where}a limit on money needs the price of a worker: --price, or price_per_hour.")
    return settings


def check_pair(pair: PairSettings, where: str = "", spelled: Callable[[str], str] = str) -> PairSettings:
    """The same pair, if its numbers make sense; ``spelled`` says how its user writes a key of the file.

    Raises:
        SettingsError: one does not.
    """
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("max", pair.most, 0, 100_000),
        ("jobs_per_worker", pair.jobs_per_worker, 1, 1_000_000),
        ("poll_s", pair.poll_s, 0.05, 3600),
        ("cost", pair.cost, 0.001, 1e9),
        ("lifetime_s", pair.lifetime_s, 5, 7 * 86_400),
        ("claim_s", pair.claim_s, 0.1, 86_400),
        ("end_idle_s", pair.end_idle_s if pair.end_idle_s is not None else 60, 2, 7 * 86_400),
        ("price_per_hour", pair.price_per_hour, 0, AMOUNT_MAX),
    )
    for name, value, lowest, highest in bounds:
        if not lowest <= value <= highest:
            raise SettingsError(f"{where}{spelled(name)} is {value:g}, and must be from {lowest:g} to {highest:g}.")
    if not pair.endpoint.strip():
        raise SettingsError(f"{where}{spelled('endpoint')} is empty; name one.")
    try:
        adapter(pair.queue)
        without_password(pair.queue)
    except QueueError as error:
        raise SettingsError(f"{where}{error}") from None
    except ValueError:
        raise SettingsError(f"{where}the queue is no URL (scheme://user:password@host:port/path?name=value).") from None
    return pair
