"""Runs on a node, as the job: starts the worker there, and writes down that it runs and how it ended.

Slurm asks it to end by SIGTERM (30 s before the time limit, and when the job is cancelled), which it passes on to the
worker; what the worker leaves behind ends with the job, which is Slurm's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from nullworker.fleets.base import FleetError, InstanceSpec, Resources
from nullworker.fleets.node_address import address_towards
from nullworker.fleets.processes import launch
from nullworker.fleets.processes.records import Record
from nullworker.fleets.processes.settings import read_settings
from nullworker.fleets.slurm.instances import ENDED_NAME, RUNS_NAME, read_record, write_whole


def write_down(directory: Path, name: str, text: str) -> None:
    """Tells the engine something about this job. Raises OSError."""
    write_whole(directory / f"{name}.{os.environ['SLURM_JOB_ID']}", text.encode())


def run(directory: Path) -> int:
    """Runs the worker of an instance until it ends; returns the job's exit code."""
    record = read_record(directory)
    spec = InstanceSpec(**{**record.spec, "resources": Resources()})  # Slurm gives what it asks for
    host = record.settings["host"] or address_towards(spec.report_addr)
    settings = read_settings({**record.settings, "host": host, "state_dir": str(directory), "python": sys.executable})
    roots = launch.workers_roots(settings.workers_paths)
    ports = launch.PortPool(host)
    worker = Record.of(spec, ports.choose())
    base = launch.base_environment(settings, roots, os.environ)
    environment = launch.environment(settings, base, worker, str(directory))
    process = subprocess.Popen(launch.command(settings, roots, spec.backend), cwd=directory, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    write_down(directory, RUNS_NAME, f"{host}:{worker.ports.worker}")
    code = process.wait()
    ended = f"exit code {code}" if code >= 0 else f"killed by signal {-code} ({signal.Signals(-code).name})"
    write_down(directory, ENDED_NAME, ended)
    ports.close()
    return max(0, code)


def main(directory: str) -> None:
    """Runs the job of the instance in a directory."""
    try:
        sys.exit(run(Path(directory)))
    except (FleetError, OSError) as error:
        write_down(Path(directory), ENDED_NAME, f"its worker could not be started: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
