"""docs/fleets-slurm.md has every setting with its default; what cannot work is refused; what a job asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nullworker.engine.config import load_config
from nullworker.fleets.base import FleetError
from nullworker.fleets.slurm import SlurmFleet
from nullworker.fleets.slurm.fleet import _LATER
from nullworker.fleets.slurm.settings import SlurmSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = (Path(__file__).parents[4] / "docs/fleets-slurm.md").read_text()


def test_every_setting_is_on_the_page_with_its_default() -> None:
    said = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\|", PAGE, re.MULTILINE))
    fields = {field.name: field.default for field in msgspec.structs.fields(SlurmSettings)}
    assert set(said) == set(fields) - {"state_dir"}
    for name in ("backlog", "queue_s", "notice_s", "gpus_per_worker"):
        assert said[name] == f"{fields[name]:g}"


def test_the_first_file_is_a_configuration(tmp_path: Path) -> None:
    file = tmp_path / "nullworker.toml"
    file.write_text(PAGE.partition("```toml\n")[2].partition("```")[0])
    config = load_config(file)
    assert config.endpoints[0].workergroups[0].fleet == "slurm"
    msgspec.convert({"state_dir": "x", **config.fleets["slurm"]}, SlurmSettings)


LAST = ("--time=60", "--nice")  # of what each job asks for


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sbatch", "squeue", "scancel"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"backlog": 0}, r"wrong \(Expected `int` >= 1 .*\): correct \[fleet.slurm\]"),
        ({"partitoin": "x"}, "unknown field `partitoin`"),
    ],
)
def test_what_is_wrong_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: dict[str, Any], message: str
) -> None:
    programs(tmp_path, monkeypatch)
    with pytest.raises(FleetError, match=message):
        read_settings({"state_dir": tmp_path, **table})


def test_a_machine_without_slurm_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FleetError, match="needs sbatch, squeue, scancel on this machine"):
        read_settings({"state_dir": tmp_path})


@pytest.mark.parametrize(
    ("resources", "options"),
    [
        ({}, ("--partition=gpu", "--gres=gpu:a100:1", *LAST)),
        ({"gpus": 2}, ("--partition=gpu", "--gres=gpu:a100:2", *LAST)),
        ({"gpus": 0}, ("--partition=gpu", *LAST)),
        (
            {"cpus": 4.0, "memory_gb": 1.5, "labels": {"partition": "big", "qos": "high"}},
            (
                "--partition=big",
                "--qos=high",
                "--gres=gpu:a100:1",
                "--cpus-per-task=4",
                "--mem=1500M",
                "--time=60",
                "--nice",
            ),
        ),
    ],
)
def test_what_a_job_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: Mapping[str, Any], options: tuple[str, ...]
) -> None:
    programs(tmp_path, monkeypatch)
    table = {"partition": "gpu", "gpus_per_worker": 1, "gpu_kind": "a100", "time_limit_min": 60, "options": ["--nice"]}
    fleet = SlurmFleet(read_settings({"state_dir": tmp_path, **table}), "mark", lambda *_: None, lambda _: None)
    assert fleet._options({"gpus": None, "cpus": None, "memory_gb": None, "labels": {}, **resources}) == options


@pytest.mark.parametrize(
    ("said", "later"),
    [
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", True),
        ("Requested time limit is invalid (missing or exceeds some value)", False),
        ("invalid partition specified: nope", False),
        ("Resource temporarily unavailable", True),
    ],
)
def test_a_limit_on_jobs_is_a_shortage_and_a_wrong_option_is_none(said: str, later: bool) -> None:
    assert bool(_LATER.search(said)) is later
