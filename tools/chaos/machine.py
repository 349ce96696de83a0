"""What the machine has of what kinds of fault need, and why the rest is missing. Debian's packages are installed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.queues.brokers import program
from tools.chaos import sandbox
from tools.chaos.faults.clocks import library
from tools.chaos.record import ROOT

#: The earlier version that upgrades begin with and downgrades go to: there is no release yet. It is the first whose end
#: by SIGTERM ends no job.
OLD = "a5f139b"


@dataclass
class Machine:
    """What there is."""

    #: Why something that kinds need is not there.
    missing: dict[str, str] = field(default_factory=dict)
    old: Path | None = None

    @property
    def redis(self) -> bool:
        """Whether queues can be on Redis."""
        return not self.missing.get("redis")


def look(old: str) -> Machine:
    """Looks; what is missing is named, with the Debian package that has it.

    Args:
        old: the earlier version, as git names it.
    """
    here = Machine()
    for need, name in (("namespaces", "ip"), ("redis", "redis-server"), ("faketime", "faketime")):
        try:
            program(name)
        except pytest.skip.Exception as reason:
            here.missing[need] = str(reason)
    if not here.missing.get("namespaces") and (why := sandbox.why_not()):
        here.missing["namespaces"] = f"no namespaces of its own can be made here ({why})"
    if not here.missing.get("faketime") and library() is None:
        here.missing["faketime"] = "faketime has no library libfaketime.so.1 under /usr/lib"
    try:
        here.old = _checked_out(old)
    except (OSError, subprocess.CalledProcessError) as error:
        here.missing["old"] = f"the earlier version {old} cannot be had from git ({error})"
    return here


def _checked_out(name: str) -> Path:
    """A folder inside the environment with an earlier version, made once."""
    git = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*git, "rev-parse", "--verify", name], capture_output=True, text=True, check=True)
    folder = Path(sys.prefix) / "chaos" / commit.stdout.strip()
    if not folder.exists():
        archive = subprocess.run(
            [*git, "archive", commit.stdout.strip(), "nullworker", "workers"], capture_output=True, check=True
        )
        work = folder.with_suffix(".new")
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["tar", "-x", "-C", str(work)], input=archive.stdout, check=True)
        work.rename(folder)
    return folder
