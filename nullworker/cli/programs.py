"""Whether a program that a user names can be run: said before anything starts, not by each worker for itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from nullworker.cli.errors import UserError


def check_program(name: str) -> None:
    """Says before anything starts what each worker would find out for itself.

    Raises:
        UserError: there is no such program, or it may not be run.
    """
    if shutil.which(name) is not None:
        return
    if Path(name).is_file():
        raise UserError(f"{name} is a file that may not be run: chmod +x {name}, or name its interpreter before it.")
    raise UserError(f"There is no program {name} in PATH; name one that there is, or its path.")
