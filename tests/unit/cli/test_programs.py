"""What a user names is looked at before anything starts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nullworker.cli.errors import UserError
from nullworker.cli.programs import check_program, unusable_consumers
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine.config import EndpointConfig, EngineConfig, WorkergroupConfig

if TYPE_CHECKING:
    from pathlib import Path


def test_a_program_that_is_there_is_fine() -> None:
    check_program("sh")


def test_one_that_is_nowhere_is_named() -> None:
    with pytest.raises(UserError, match="There is no program nosuchprog in PATH"):
        check_program("nosuchprog")


def test_a_file_without_its_x_bit_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    script = tmp_path / "consumer.sh"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(UserError, match=f"may not be run: chmod \\+x {script}"):
        check_program(str(script))
    script.chmod(0o755)
    check_program(str(script))


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (
            WorkergroupConfig(consumer="nosuchprog --flag"),
            "The consumer of gpu cannot start: There is no program nosuchprog",
        ),
        (WorkergroupConfig(consumer="sh 'x"), "a quote is not closed in sh 'x"),
        (WorkergroupConfig(consumer="sh run.sh"), ""),
        (WorkergroupConfig(consumer="pytest"), ""),  # beside the interpreter
        (WorkergroupConfig(), ""),
        (WorkergroupConfig(consumer="nosuchprog", env={"PATH": "/elsewhere"}), ""),
        (WorkergroupConfig(consumer="nosuchprog", fleet="other"), ""),
    ],
)
def test_a_consumer_that_no_worker_could_start_is_named(tmp_path: Path, group: WorkergroupConfig, said: str) -> None:
    """Before the first job waits for it."""
    endpoints = (EndpointConfig("gpu", TESTED_PARAMETERS, (group,)),)
    found = unusable_consumers(EngineConfig("127.0.0.1", 0, tmp_path, endpoints))
    assert bool(found) is bool(said)
    assert all(said in sentence for sentence in found)


def test_a_relative_path_is_looked_for_where_consumers_start(tmp_path: Path) -> None:
    group = WorkergroupConfig(consumer="./run.sh")
    config = EngineConfig("127.0.0.1", 0, tmp_path, (EndpointConfig("gpu", TESTED_PARAMETERS, (group,)),))
    assert len(unusable_consumers(config)) == 1
    assert unusable_consumers(replace(config, fleets={"processes": {"consumer_dir": "/jobs"}})) == []
