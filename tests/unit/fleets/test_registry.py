"""Fleets are found by entry points, and a wrong name, a missing library or half a fleet is told in one sentence."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets import registry
from nullworker.fleets.base import FleetError
from nullworker.fleets.processes import ProcessFleet
from nullworker.testing.memory_fleet import MemoryFleet, MemoryWorld

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a distribution that brings one fleet, as pip would lay it down."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, value: str, distribution: str = "other") -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[nullworker.fleets]\n{name} = {value}\n")
        importlib.invalidate_caches()

    return make


def test_the_process_fleet_is_found_by_its_name() -> None:
    assert registry.fleet_class("processes") is ProcessFleet
    assert "processes" in registry.fleet_names()


async def test_anyones_fleet_is_found_and_opened_the_same_way(install: Callable[[str, str], None]) -> None:
    install("memory", "nullworker.testing.memory_fleet:MemoryFleet")
    fleet = await registry.open_fleet("memory", {"world": MemoryWorld()}, "mark", lambda *_: None)
    assert isinstance(fleet, MemoryFleet)
    assert {"memory", "processes"} <= set(registry.fleet_names())


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    with pytest.raises(FleetError, match=r"no fleet 'nebula' \(installed are .*processes"):
        registry.fleet_class("nebula")


def test_a_fleet_whose_library_is_missing_says_what_to_install(install: Callable[[str, str], None]) -> None:
    install("cloud", "absent_library.fleet:CloudFleet [cloud]")
    with pytest.raises(FleetError, match=r"absent_library.*pip install 'other\[cloud\]'"):
        registry.fleet_class("cloud")


def test_half_a_fleet_is_refused_with_what_it_lacks(install: Callable[[str, str], None]) -> None:
    install("half", "io:BytesIO")
    with pytest.raises(FleetError, match="lacks open, check_backend, create, start, stop, destroy, list"):
        registry.fleet_class("half")


def test_two_packages_with_the_same_name_are_refused(install: Callable[..., None]) -> None:
    """Which of them runs a fleet that costs money is not left to chance."""
    install("twin", "one:Fleet", "first")
    install("twin", "two:Fleet", "second")
    with pytest.raises(FleetError, match=r"Several packages provide a fleet 'twin' \(one:Fleet, two:Fleet\)"):
        registry.fleet_class("twin")
