"""Asks fleets what they would create for each workergroup of a configuration, and at what price; creates nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nullworker.cli.doctor.checks import Finding, ok, warning, wrong
from nullworker.fleets.base import FleetError, Rehearses, Resources, ShortageError
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nullworker.engine.config import EngineConfig

#: A place that has not answered for so long does not.
PLACE_S = 120.0


def examine(config: Path | None, state: Path | None, names: Sequence[str]) -> list[Finding]:
    """What each fleet would create.

    Args:
        config: the configuration file, which has the fleets' tables.
        state: the engine's state directory; None: as the configuration has it.
        names: of the fleets.
    """
    from nullworker.engine.config import ConfigError, load_config

    if config is None:
        return [
            _named("fleet", wrong("No configuration was named.", "Name the file with [fleet.NAME]: --config FILE."))
        ]
    try:
        loaded = load_config(config)
    except ConfigError as error:
        return [_named("configuration", wrong(str(error), "Correct it; docs/configuration.md has all keys."))]
    return [found for name in names for found in asyncio.run(_ask(loaded, state or loaded.state, name))]


async def _ask(config: EngineConfig, state: Path, name: str) -> list[Finding]:
    """What one fleet would create, for each kind of worker that the configuration wants of it."""
    from nullworker.fleets.registry import fleet_class

    groups = [group for endpoint in config.endpoints for group in endpoint.workergroups if group.fleet == name]
    kinds: list[Resources] = []
    for group in groups:
        if group.resources not in kinds:
            kinds.append(group.resources)
    settings = {**config.fleets.get(name, {}), "state_dir": state}
    try:
        fleet = fleet_class(name)
    except FleetError as error:
        return [_named(name, wrong(str(error), "docs/fleets.md has all fleets."))]
    if not isinstance(fleet, Rehearses):
        return [_named(name, warning(f"The fleet {name} cannot say what it would create.", "Start an engine with it."))]
    return [_named(name, await _rehearsed(fleet, settings, kind)) for kind in kinds or [Resources()]]


async def _rehearsed(fleet: Rehearses, settings: dict[str, object], resources: Resources) -> Finding:
    try:
        return ok(await within(fleet.rehearse(settings, resources), PLACE_S))
    except ShortageError as error:
        return warning(str(error), "An engine would try again until there is one.")
    except FleetError as error:
        return wrong(str(error), "Correct that before an engine is started.")
    except asyncio.TimeoutError:
        return wrong(f"The place did not answer within {PLACE_S:g} s.", "Try again later.")


def _named(check: str, found: Finding) -> Finding:
    return found._replace(check=check)
