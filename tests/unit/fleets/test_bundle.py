"""The code that a host gets: named by its content, with all that a worker and the agent need, and nothing else."""

from __future__ import annotations

import io
import os
import zipfile
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets import bundle
from nullworker.fleets.base import FleetError
from nullworker.fleets.bundle import make_bundle, requirements

if TYPE_CHECKING:
    from pathlib import Path


def names(made: bundle.Bundle) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(made.content)).namelist())


def test_it_has_what_runs_on_a_host_and_nothing_of_the_engine(tmp_path: Path) -> None:
    found = names(make_bundle([], ""))
    assert {"nullworker/__init__.py", "nullworker/fleets/ssh/agent.py", "nullworker/worker/framework.py"} <= found
    assert {"nullworker/wire/tasks.py", "workers/null/worker.py"} <= found
    assert not any(name.startswith(("nullworker/engine", "nullworker/core", "nullworker/dispatch")) for name in found)
    assert not any("__pycache__" in name for name in found)


def test_the_same_content_has_the_same_name_and_other_content_another(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    own = tmp_path / "code" / "job.py"
    own.write_text("print(1)")
    first = make_bundle([], str(tmp_path / "code"))
    os.utime(own, (1, 1))
    assert make_bundle([], str(tmp_path / "code")) == first
    own.write_text("print(2)")
    assert make_bundle([], str(tmp_path / "code")).name != first.name
    assert "own/job.py" in names(first)
    assert first.has_own_code


def test_backends_of_ones_own_come_before_the_installed_ones(tmp_path: Path) -> None:
    (tmp_path / "workers" / "null").mkdir(parents=True)
    (tmp_path / "workers" / "null" / "worker.py").write_text("mine")
    made = make_bundle([str(tmp_path)], "")
    assert zipfile.ZipFile(io.BytesIO(made.content)).read("workers/null/worker.py") == b"mine"


def test_links_that_lead_round_in_circles_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "a").write_text("a")
    assert {name for name in names(make_bundle([], str(tmp_path))) if name.startswith("own/")} == {"own/a"}


def test_what_is_too_large_or_unreadable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FleetError, match="/absent, which the hosts of the SSH fleet are to get, cannot be read"):
        make_bundle([], str(tmp_path / "absent"))
    monkeypatch.setattr(bundle, "BYTES_MAX", 1 << 20)
    (tmp_path / "data").write_bytes(bytes(2 << 20))
    with pytest.raises(FleetError, match="larger than 1 MiB: name a smaller directory as code"):
        make_bundle([], str(tmp_path))


def test_a_host_needs_what_a_worker_needs_and_no_extra_beside() -> None:
    needed = requirements()
    assert any(each.startswith("vastai") for each in needed)
    assert any(each.startswith("aiohttp") for each in needed)
    assert not any("extra" in each or each.startswith(("nullworker", "uvloop", "rich")) for each in needed)
