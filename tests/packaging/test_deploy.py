"""The files in deploy/: units whose restart ends no job, and an image with an init that reaps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nullworker.cli.doctor import checks
from nullworker.cli.doctor.checks import Level
from nullworker.cli.doctor.facts import UnitFacts
from tests.unit.cli.test_doctor import WELL

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
RUNNING = (ROOT / "docs/running.md").read_text()
#: What systemd takes where a unit says nothing.
DEFAULTS = {"KillMode": "control-group", "OOMPolicy": "stop", "PrivateTmp": "no", "DynamicUser": "no"}


def properties(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def wrong(settings: dict[str, str]) -> list[str]:
    """What `nullworker doctor` finds in a unit."""
    facts = replace(WELL, unit=UnitFacts("nullworker.service", settings))
    return [found.what for found in checks.unit(facts) if found.level is not Level.OK]


def test_a_restart_of_the_engines_unit_ends_no_job_and_of_one_with_defaults_does() -> None:
    engine = properties((ROOT / "deploy/systemd/nullworker.service").read_text())
    assert wrong({name: engine.get(name, DEFAULTS[name]) for name in DEFAULTS}) == []
    assert len(wrong(DEFAULTS)) == 2
    assert engine["Restart"] == "on-failure"
    assert engine["StateDirectoryMode"] == "0700"


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    """With a command and a user that are there."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    command = tmp_path / "nullworker"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    text = (
        unit.read_text().replace("/opt/nullworker/bin/nullworker", str(command)).replace("User=nullworker", "User=root")
    )
    here = tmp_path / unit.name
    here.write_text(text)
    for other in UNITS:
        if other != unit:
            (tmp_path / other.name).write_text(text)  # which it may name
    done = subprocess.run([analyze, "verify", str(here)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_the_command_of_a_unit_is_one_of_ours(unit: Path) -> None:
    _, name, *flags = properties(unit.read_text())["ExecStart"].split()
    command = [sys.executable, "-m", "nullworker.cli.main", name, "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [flag for flag in flags if flag.startswith("--") and flag not in said] == []


def test_each_line_that_matters_is_explained() -> None:
    unit = (ROOT / "deploy/systemd/nullworker.service").read_text()
    explained = re.findall(r"^\| `(\w+=[^`]+)` \|", RUNNING, re.MULTILINE)
    assert len(explained) >= 8
    assert [line for line in explained if f"\n{line}\n" not in unit] == []


def test_the_image_has_an_init_that_reaps_and_what_it_is_made_of_is_there() -> None:
    assert '\nENTRYPOINT ["/usr/bin/tini", "--", "nullworker"]\n' in DOCKERFILE
    assert "--no-install-recommends tini" in DOCKERFILE
    assert "\nUSER nullworker\n" in DOCKERFILE
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()]
    assert {"pyproject.toml", "README.md", "LICENSE", "nullworker", "workers"} == set(copied)
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied)
    assert all((ROOT / path).exists() for path in copied)


def test_the_images_first_command_is_an_engine() -> None:
    (words,) = re.findall(r"^CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    assert words.startswith('["engine", ')
