"""Which backends the process fleet can run: folders of ``workers`` that are installed, or that its settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes import ProcessFleet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["null", "helloworld"])
def test_installed_backends_are_known(name: str) -> None:
    ProcessFleet.check_backend({}, name)


@pytest.mark.parametrize("name", ["", "no_such", "../null", "null/..", ".hidden", "nu ll", "null\n"])
def test_what_is_no_backend_or_no_name_is_refused(name: str) -> None:
    with pytest.raises(FleetError, match=r"There is no backend|cannot be the name of a backend"):
        ProcessFleet.check_backend({}, name)


@pytest.mark.parametrize("as_list", [False, True])
def test_those_of_a_path_are_known_where_the_settings_name_it(tmp_path: Path, as_list: bool) -> None:
    for name, file in (("mine", "worker.py"), ("my-classic", "backend.py"), ("not-importable", "worker.py")):
        (tmp_path / "workers" / name).mkdir(parents=True)
        (tmp_path / "workers" / name / file).touch()
    settings = {"workers_path": [str(tmp_path)] if as_list else str(tmp_path)}
    ProcessFleet.check_backend(settings, "mine")
    ProcessFleet.check_backend(settings, "my-classic")
    with pytest.raises(FleetError, match="There is no backend 'not-importable'"):
        ProcessFleet.check_backend(settings, "not-importable")
    with pytest.raises(FleetError, match="by workers_path of"):
        ProcessFleet.check_backend({}, "mine")
