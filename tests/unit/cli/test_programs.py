"""What a user names is looked at before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.cli.errors import UserError
from nullworker.cli.programs import check_program

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
