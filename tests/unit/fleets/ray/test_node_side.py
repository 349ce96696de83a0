"""What a job of Ray gives the worker of its environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.fleets.ray.node_side import without_working_dir

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_our_code_is_not_on_the_consumers_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray puts it there; a consumer that imports nullworker would find the part of it that workers need."""
    (tmp_path / "code").mkdir()
    (tmp_path / "link").symlink_to("code")
    monkeypatch.chdir(tmp_path / "code")
    given = {"PYTHONPATH": f"{tmp_path}/link:/mine:{tmp_path}/code", "PATH": "/bin"}
    assert without_working_dir(given) == {"PYTHONPATH": "/mine", "PATH": "/bin"}
    assert without_working_dir({"PYTHONPATH": f"{tmp_path}/code:"}) == {}
    assert without_working_dir({"HOME": "/root"}) == {"HOME": "/root"}
