"""Which backends an engine takes workergroups of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.engine.backends import knows_backend

if TYPE_CHECKING:
    from pathlib import Path


def test_the_installed_ones_are_known() -> None:
    assert knows_backend("null")
    assert knows_backend("helloworld")


@pytest.mark.parametrize("name", ["", "no_such", "../null", "null/..", ".hidden", "nu ll", "null\n"])
def test_what_is_none_or_no_name_is_not(name: str) -> None:
    assert not knows_backend(name)


def test_those_of_a_path_are_known_where_it_is_given(tmp_path: Path) -> None:
    for name, file in (("mine", "worker.py"), ("my-classic", "backend.py"), ("not-importable", "worker.py")):
        (tmp_path / "workers" / name).mkdir(parents=True)
        (tmp_path / "workers" / name / file).touch()
    assert not knows_backend("mine")
    known = [name for name in ("mine", "my-classic", "not-importable") if knows_backend(name, [str(tmp_path)])]
    assert known == ["mine", "my-classic"]
