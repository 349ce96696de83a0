"""Finds a fleet by the name that a workergroup gives it, among the entry points ``nullworker.fleets``.

Fleets in this package are found the same way as those of other packages: a distribution that declares

    [project.entry-points."nullworker.fleets"]
    my-cloud = "my_package.my_module:MyFleet"

makes ``fleet = "my-cloud"`` work.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from nullworker.fleets.base import Fleet, FleetError, no_notice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nullworker.fleets.base import Notice

GROUP = "nullworker.fleets"
VERBS = ("open", "check_backend", "create", "start", "stop", "destroy", "list", "read_log", "close")


def fleet_names() -> list[str]:
    """The names of all installed fleets, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def fleet_class(name: str) -> type[Fleet]:
    """The fleet with this name.

    Raises:
        FleetError: no installed package or two of them have it, what it needs is not installed, or it lacks a verb.
    """
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if not points:
        raise FleetError(f"There is no fleet {name!r} (installed are {', '.join(fleet_names()) or 'none'}).")
    if len(points) > 1:
        raise FleetError(
            f"Several packages provide a fleet {name!r} ({', '.join(sorted(points))}): uninstall all but one."
        )
    (point,) = points.values()
    try:
        loaded = point.load()
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist else "nullworker"
        extra = f"{package}[{point.extras[0]}]" if point.extras else package
        raise FleetError(
            f"The fleet {name!r} cannot be loaded ({error}): install what it needs, pip install '{extra}'."
        ) from error
    missing = [verb for verb in VERBS if not callable(getattr(loaded, verb, None))]
    if missing:
        raise FleetError(f"The fleet {name!r} ({point.value}) lacks {', '.join(missing)}: see docs/fleets.md.")
    return cast("type[Fleet]", loaded)


async def open_fleet(
    name: str,
    settings: Mapping[str, object],
    mark: str,
    on_exit: Callable[[int, str], None],
    on_notice: Callable[[Notice], None] = no_notice,
) -> Fleet:
    """Opens the fleet with this name.

    Args:
        name: as a workergroup gives it.
        settings: as for `Fleet.open`.
        mark: as for `Fleet.open`.
        on_exit: as for `Fleet.open`.
        on_notice: as for `Fleet.open`.

    Raises:
        FleetError: there is no such fleet, its settings are wrong, or it cannot be reached.
    """
    return await fleet_class(name).open(settings, mark, on_exit, on_notice)
