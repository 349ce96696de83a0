"""Runs on a node, as the job: chooses ports, and becomes the worker, so that Ray's signals and exit codes are its own.

What it is to run is in one variable of its environment, which the worker and its consumer do not get.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.fleets.base import FleetError, InstanceSpec, Resources
from nullworker.fleets.node_address import address_towards
from nullworker.fleets.processes import launch
from nullworker.fleets.processes.records import Record
from nullworker.fleets.processes.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The variable: JSON with ``job_id``, ``spec`` (an `InstanceSpec`) and ``settings``.
INSTANCE_JSON = "NULLWORKER_RAY_INSTANCE"
#: What Ray tells its jobs, for a consumer that uses Ray itself.
OF_RAY = ("RAY_ADDRESS", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def main() -> None:
    """Becomes the worker."""
    try:
        arguments, environment, directory = prepare(msgspec.json.decode(os.environ[INSTANCE_JSON]))
        os.chdir(directory)
        die_with_parent()
        os.execve(arguments[0], arguments, environment)  # noqa: S606 - the worker's own command
    except (FleetError, OSError, KeyError, msgspec.DecodeError) as error:
        sys.exit(f"The worker could not be started: {error}")


def prepare(told: dict[str, Any]) -> tuple[list[str], dict[str, str], Path]:
    """What to run: the command, its whole environment, and the directory to run it in.

    Args:
        told: what the fleet says.

    Raises:
        FleetError: there is no such backend, or no free port.
        OSError: the node has no route to the engine, or no room for a directory.
    """
    spec = InstanceSpec(**{**told["spec"], "resources": Resources()})  # Ray gives what it asks for
    own: dict[str, Any] = told["settings"]
    host = own["host"] or address_towards(spec.report_addr)
    directory = make_directory(told["job_id"])
    consumer_dir = own["consumer_dir"] or str(directory)  # not the job's, where python -m would find a part of our code
    if own["code_name"]:
        consumer_dir = str(Path(own["code_name"]).absolute())
    settings = read_settings(
        {
            "state_dir": str(directory),
            "host": host,
            "python": sys.executable,
            "consumer_dir": consumer_dir,
            "pass_env": [*OF_RAY, *own["pass_env"]],
        }
    )
    roots = launch.workers_roots(())
    ports = launch.PortPool(host)
    record = Record.of(spec, ports.choose())
    ports.close()
    base = launch.base_environment(settings, roots, without_working_dir(os.environ))
    return (
        launch.command(settings, roots, spec.backend),
        launch.environment(settings, base, record, str(directory)),
        directory,
    )


def without_working_dir(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the job, but for the directory of our code, which Ray puts into PYTHONPATH.

    The consumer gets PYTHONPATH as it was, and would find our code, of which only a part is here, in place of its own.
    """
    ours = os.path.realpath(Path.cwd())
    given = environ.get("PYTHONPATH", "").split(os.pathsep)
    left = [path for path in given if path and os.path.realpath(path) != ours]
    rest = {name: value for name, value in environ.items() if name != "PYTHONPATH"}
    return {**rest, "PYTHONPATH": os.pathsep.join(left)} if left else rest


def make_directory(job_id: str) -> Path:
    """A directory for the job; those of jobs that have ended on this node are removed. Raises OSError."""
    root = Path(tempfile.gettempdir()) / f"nullworker-ray-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():
        raise OSError(f"{root} belongs to another user")
    for old in root.iterdir():
        pid = old.name.rpartition(".")[2]
        if not Path("/proc", pid).exists():
            shutil.rmtree(old, ignore_errors=True)
    directory = root / f"{job_id}.{os.getpid()}"
    directory.mkdir(mode=0o700)
    return directory


def die_with_parent() -> None:
    """Has the kernel send SIGTERM when Ray's process for the job dies: Ray counts the job as failed from then on."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("Ray's process for this job is gone")


if __name__ == "__main__":
    main()
