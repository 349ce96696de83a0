"""Settings are checked when the fleet is opened, and a wrong one is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes.settings import read_settings


def test_the_state_directory_is_enough(tmp_path: Path) -> None:
    """The rest has defaults that suit one machine."""
    settings = read_settings({"state_dir": tmp_path})
    assert settings.host == "127.0.0.1"
    assert settings.python == sys.executable
    assert settings.start_limit == 2 * (os.cpu_count() or 1)
    assert settings.grace_s == 10
    assert settings.consumer_dir == str(Path.cwd())
    assert settings.workers_paths == []


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has a directory of its own, in which they would mean another place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    settings = read_settings(
        {"state_dir": "link", "workers_path": "~/mine", "consumer_dir": "jobs", "python": "python3"}
    )
    assert settings.state_dir == str(tmp_path / "there")
    assert settings.workers_paths == [str(tmp_path / "mine")]
    assert settings.consumer_dir == str(tmp_path / "jobs")
    assert Path(settings.python).is_absolute()


def test_a_virtual_environments_python_keeps_its_name(tmp_path: Path) -> None:
    """By its own name it finds its packages, by the name that it links to it does not."""
    (tmp_path / "python").symlink_to(sys.executable)
    settings = read_settings({"state_dir": tmp_path, "python": str(tmp_path / "python")})
    assert settings.python == str(tmp_path / "python")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"start_limit": "many"}, "start_limit"),
        ({"start_limit": 0}, "start_limit"),
        ({"grace_s": -1}, "grace_s"),
        ({"grace_s": float("nan")}, "grace_s"),
        ({"log_bytes_max": 1}, "log_bytes_max"),
        ({"pass_env": "HOME"}, "pass_env"),
        ({"workers_path": [1]}, "workers_path"),
        ({"host": "0.0.0.0"}, "0.0.0.0"),
        ({"host": ""}, "host"),
        ({"python": "no-such-python"}, "no-such-python"),
        ({"state_dir": None}, "state_dir"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_it(tmp_path: Path, wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(FleetError, match=named) as raised:
        read_settings({"state_dir": tmp_path, **wrong})
    assert "\n" not in str(raised.value)


def test_without_a_state_directory_nothing_is_opened() -> None:
    with pytest.raises(FleetError, match="state_dir"):
        read_settings({})


def test_a_working_directory_that_is_gone_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(FleetError, match="is gone"):
        read_settings({"state_dir": tmp_path})
