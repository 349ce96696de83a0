"""The parameters of an endpoint and of a workergroup, under Vast's own names, with the bounds that keep them sane.

Defaults are those that Vast's console documents. `seconds` are seconds of the engine's monotonic clock; *load*, *cost*
and *perf* share one unit (Vast's "perf units"; a null worker has perf 100 and a reservation costs 100).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, fields

#: What an unset or zero `inactivity_timeout` means.
INACTIVITY_TIMEOUT_DEFAULT_S = 10.0


class EndpointState(enum.Enum):
    """What an operator wants of an endpoint."""

    ACTIVE = "active"
    SUSPENDED = "suspended"  # workers are neither added nor removed
    STOPPED = "stopped"  # all workers become inactive


class ParameterError(ValueError):
    """A parameter is out of its bounds; ``name`` is the parameter, the message one sentence that says the bounds."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


#: name -> (lowest, highest); the highest are far beyond use, and keep sums finite.
BOUNDS: dict[str, tuple[float, float]] = {
    "min_load": (0.0, 1e9),
    "target_util": (0.01, 1.0),
    "cold_mult": (0.0, 1000.0),
    "cold_workers": (0, 100_000),
    "min_cold_load": (0.0, 1e9),
    "max_workers": (0, 1_000_000),
    "max_queue_time": (0.0, 1e6),
    "target_queue_time": (0.0, 1e6),
    "inactivity_timeout": (-1e6, 1e6),
}


@dataclass(frozen=True, slots=True)
class Parameters:
    """How an endpoint scales. Field names and meanings are Vast's; see docs/configuration.md."""

    min_load: float = 1.0
    target_util: float = 0.9
    cold_mult: float = 3.0
    cold_workers: int = 5
    min_cold_load: float = 0.0
    max_workers: int = 16
    max_queue_time: float = 30.0
    target_queue_time: float = 10.0
    inactivity_timeout: float | None = None
    state: EndpointState = EndpointState.ACTIVE

    def __post_init__(self) -> None:
        """Raises `ParameterError` for the first field that is out of its bounds."""
        for field in fields(self):
            bounds = BOUNDS.get(field.name)
            value = getattr(self, field.name)
            if bounds is None or value is None:
                continue
            lowest, highest = bounds
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ParameterError(field.name, f"{field.name} must be a number from {lowest:g} to {highest:g}")
            if not lowest <= value <= highest:
                raise ParameterError(
                    field.name, f"{field.name} is {value:g}, and must be from {lowest:g} to {highest:g}"
                )

    @property
    def idle_s(self) -> float:
        """Seconds that a free worker is kept before it is surplus."""
        timeout = self.inactivity_timeout
        return INACTIVITY_TIMEOUT_DEFAULT_S if timeout is None or timeout <= 0 else timeout

    @property
    def keeps_last(self) -> bool:
        """Whether the last active worker stays for ever (a negative `inactivity_timeout`)."""
        return self.inactivity_timeout is not None and self.inactivity_timeout < 0


#: The set that the seeds of this project tested: one reservation, one worker, from zero and back.
TESTED_PARAMETERS = Parameters(
    min_load=0.0,
    target_util=1.0,
    cold_mult=1.0,
    cold_workers=0,
    max_workers=16,
    max_queue_time=1.0,
    target_queue_time=0.5,
    inactivity_timeout=10.0,
)


@dataclass(frozen=True, slots=True)
class WorkergroupSpec:
    """What to run and on which fleet, as far as the core needs to know."""

    workergroup_id: int
    endpoint_id: int
    fleet: str
    perf: float = 100.0  # expected of a worker before it has measured its own
    #: Reservations that a worker is known to take; None: unknown, and learnt from refusals. A null worker takes 1.
    occupancy: int | None = None
    price_per_hour: float = 0.0
    max_workers: int | None = None  # of this workergroup alone
    boot_timeout_s: float = 1800.0  # from its creation or start to its first ready report
    #: For how long cheaper workergroups of its endpoint must have been unable before this one grows in their place.
    fallback_after_s: float = 0.0

    def __post_init__(self) -> None:
        """Raises `ParameterError` for the first field that is out of its bounds."""
        if not (math.isfinite(self.perf) and 0 < self.perf <= 1e9):
            raise ParameterError("perf", f"perf is {self.perf:g}, and must be over 0 and at most 1e9")
        if self.occupancy is not None and self.occupancy < 1:
            raise ParameterError("occupancy", f"occupancy is {self.occupancy}, and must be at least 1")
        if not (math.isfinite(self.price_per_hour) and 0 <= self.price_per_hour <= 1e6):
            raise ParameterError(
                "price_per_hour", f"price_per_hour is {self.price_per_hour:g}, and must be from 0 to 1e6"
            )
        if not (math.isfinite(self.boot_timeout_s) and 0 < self.boot_timeout_s <= 1e6):
            raise ParameterError(
                "boot_timeout_s", f"boot_timeout_s is {self.boot_timeout_s:g}, and must be over 0 and at most 1e6"
            )
        if not (math.isfinite(self.fallback_after_s) and 0 <= self.fallback_after_s <= 1e6):
            raise ParameterError(
                "fallback_after_s", f"fallback_after_s is {self.fallback_after_s:g}, and must be from 0 to 1e6"
            )
        if self.max_workers is not None and self.max_workers < 0:
            raise ParameterError("max_workers", f"max_workers is {self.max_workers}, and must be at least 0")
