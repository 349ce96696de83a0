"""The settings of a dispatcher, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.dispatch.binding import BindingSettings, without_password
from nullworker.dispatch.budget import Budget
from nullworker.queues.base import QueueError
from nullworker.queues.registry import adapter

if TYPE_CHECKING:
    from collections.abc import Callable

AMOUNT_MAX = 1e6  # in the currency of the prices


class DispatchSettingsError(Exception):
    """A setting is wrong; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """All settings of a dispatcher."""

    bindings: tuple[BindingSettings, ...]
    instance: str = "local"
    cap: int | None = None
    budget: Budget = field(default_factory=Budget)
    trace_file: str = ""


def check_settings(settings: DispatchSettings, where: str = "") -> DispatchSettings:
    """Returns the same settings, if they fit together.

    Raises:
        DispatchSettingsError: they do not fit.
    """
    names = [binding.name for binding in settings.bindings]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise DispatchSettingsError(f"{where}the queue {twice} is listed twice; list it once for an endpoint.")
    for name, amount in (("max_hourly", settings.budget.hourly), ("max_daily", settings.budget.daily)):
        if amount is not None and not 0 <= amount <= AMOUNT_MAX:
            raise DispatchSettingsError(f"{where}{name} is {amount:g}, and must be from 0 to {AMOUNT_MAX:g}.")
    if settings.budget and not all(binding.price_per_hour for binding in settings.bindings):
        raise DispatchSettingsError(f"{where}a limit on money needs the price of a worker: --price, or price_per_hour.")
    return settings


def check_binding(binding: BindingSettings, where: str = "", spelled: Callable[[str], str] = str) -> BindingSettings:
    """Returns the same binding, if its settings are within their bounds.

    Args:
        binding: to check.
        where: begins each message: the file and the place in it.
        spelled: how the user wrote a key of the file, as a flag perhaps.

    Raises:
        DispatchSettingsError: one is not within its bounds.
    """
    bounds: tuple[tuple[str, float, float, float], ...] = (
        ("max", binding.most, 0, 100_000),
        ("jobs_per_worker", binding.jobs_per_worker, 1, 1_000_000),
        ("poll_s", binding.poll_s, 0.05, 3600),
        ("cost", binding.cost, 0.001, 1e9),
        ("lifetime_s", binding.lifetime_s, 5, 7 * 86_400),
        ("claim_s", binding.claim_s, 0.1, 86_400),
        ("end_idle_s", binding.end_idle_s if binding.end_idle_s is not None else 60, 2, 7 * 86_400),
        ("max_idle_hold_s", binding.max_idle_hold_s if binding.max_idle_hold_s is not None else 60, 2, 7 * 86_400),
        ("price_per_hour", binding.price_per_hour, 0, AMOUNT_MAX),
    )
    for name, value, lowest, highest in bounds:
        if not lowest <= value <= highest:
            raise DispatchSettingsError(
                f"{where}{spelled(name)} is {value:g}, and must be from {lowest:g} to {highest:g}."
            )
    if not binding.endpoint.strip():
        raise DispatchSettingsError(f"{where}{spelled('endpoint')} is empty; name one.")
    try:
        adapter(binding.queue)
        without_password(binding.queue)
    except QueueError as error:
        raise DispatchSettingsError(f"{where}{error}") from None
    except ValueError:
        raise DispatchSettingsError(
            f"{where}the queue is not a URL (scheme://user:password@host:port/path?name=value)."
        ) from None
    return binding
