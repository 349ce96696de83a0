"""Whether a program that a user names can be run: said before anything starts, not by each worker for itself."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    from nullworker.engine.config import EngineConfig


def check_program(name: str) -> None:
    """Says before anything starts what each worker would find out for itself.

    Raises:
        UserError: there is no such program, or it may not be run.
    """
    # The interpreter's own programs are found behind all others, as a worker finds them.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    if shutil.which(name, path=path) is not None:
        return
    if Path(name).is_file():
        raise UserError(f"{name} is a file that may not be run: chmod +x {name}, or name its interpreter before it.")
    raise UserError(f"There is no program {name} in PATH; name one that there is, or its path.")


def unusable_consumers(config: EngineConfig) -> list[str]:
    """A sentence for each consumer of the process fleet whose program cannot be run, as each worker would find out.

    Not looked at is what may be found elsewhere: of other fleets, with a PATH of the workergroup's own, by a relative
    path in another directory.
    """
    found = []
    elsewhere = "consumer_dir" in config.fleets.get("processes", {})
    for endpoint in config.endpoints:
        for group in endpoint.workergroups:
            if group.fleet != "processes" or "PATH" in group.env:
                continue
            try:
                words = shlex.split(group.consumer)
                is_relative = words and "/" in words[0] and not words[0].startswith("/")
                if words and not (elsewhere and is_relative):
                    check_program(words[0])
            except UserError as error:
                found.append(f"The consumer of {endpoint.name} cannot start: {error}")
            except ValueError:
                found.append(
                    f"The consumer of {endpoint.name} cannot start: a quote is not closed in {group.consumer}."
                )
    return found
