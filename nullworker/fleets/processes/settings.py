"""The settings of the process fleet: the keys of ``[fleet.processes]``, checked when the fleet is opened."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes.gpus import find_gpus
from nullworker.wire.worker_side.run_as import RunAsError, find

if TYPE_CHECKING:
    from collections.abc import Mapping

_Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
#: Addresses that a process can listen on, but that cannot be called.
_WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - they are refused


class ProcessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings with their defaults."""

    #: The engine's state directory: instances live in ``fleets/processes`` of it, logs of destroyed ones in ``logs``.
    state_dir: str
    #: The address that workers listen on, and at which the engine and its clients reach them.
    host: str = "127.0.0.1"
    #: The interpreter that workers run on.
    python: str = sys.executable
    #: Directories that hold a ``workers`` folder, looked into before the installed one.
    workers_path: str | list[str] = []
    #: Where a worker's consumer is to be started; the engine's own working directory by default.
    consumer_dir: str = ""
    #: The user that consumers run as; "": the engine's own.
    run_as: str = ""
    #: Variables of the engine's environment that workers get beside the usual ones, LD_LIBRARY_PATH for example.
    pass_env: list[str] = []
    #: The GPUs that workers get: how many (0, 1, …), or their numbers or UUIDs. None: those that the engine may use.
    gpus: int | list[int | str] | None = None
    #: How many of them a worker gets whose workergroup does not say; 0: all workers may use all of them.
    gpus_per_worker: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    #: How many instances are being started at once; the rest queue.
    start_limit: _Count = max(2, 2 * (os.cpu_count() or 1))
    #: Seconds between asking an instance's processes to end (SIGTERM) and ending them (SIGKILL).
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 10.0
    #: The most that the log of one worker may take on disk.
    log_bytes_max: Annotated[int, msgspec.Meta(ge=4096, le=1 << 40)] = 10 * 1024 * 1024
    #: How many logs of destroyed workers are kept for each endpoint; the oldest go first.
    logs_kept: _Count = 100

    @property
    def workers_paths(self) -> list[str]:
        """``workers_path`` as a list."""
        return [self.workers_path] if isinstance(self.workers_path, str) else self.workers_path

    def gpu_names(self, environ: Mapping[str, str]) -> list[str]:
        """The GPUs that workers get, as ``CUDA_VISIBLE_DEVICES`` names them.

        Args:
            environ: the engine's environment, for where the settings do not say.
        """
        if self.gpus is None:
            return find_gpus(environ)
        return [str(gpu) for gpu in (range(self.gpus) if isinstance(self.gpus, int) else self.gpus)]


def unchecked_workers_paths(settings: Mapping[str, object]) -> list[str]:
    """``workers_path`` of settings that `read_settings` has not checked yet, as a list of absolute paths."""
    value = settings.get("workers_path", [])
    paths = value if isinstance(value, list) else [value]
    return [str(Path(str(path)).expanduser().absolute()) for path in paths]


def read_settings(settings: Mapping[str, object]) -> ProcessSettings:
    """The settings out of a configuration's table, with absolute paths.

    Raises:
        FleetError: a key is unknown, missing or of a wrong type, or what it names is not there.
    """
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
    try:
        read = msgspec.convert(plain, ProcessSettings)
    except msgspec.ValidationError as error:
        raise FleetError(
            f"The settings of the process fleet are wrong ({error}): correct [fleet.processes]."
        ) from error
    if read.host in _WILDCARDS:
        raise FleetError(
            f"The process fleet's host is {read.host!r}, which cannot be called: name one address of this machine."
        )
    if isinstance(read.gpus, list) and len({str(gpu) for gpu in read.gpus}) < len(read.gpus):
        raise FleetError("The process fleet's gpus name one GPU twice: correct [fleet.processes].")
    if read.run_as:
        try:
            find(read.run_as)
        except RunAsError as error:
            raise FleetError(f"run_as of [fleet.processes] is set, and {error}.") from None
    python = shutil.which(Path(read.python).expanduser())
    if python is None:
        raise FleetError(f"The process fleet's python, {read.python!r}, is not a program: correct [fleet.processes].")
    try:
        here = Path.cwd()
    except OSError:
        raise FleetError("The directory that this was started in is gone: start it in one that exists.") from None
    return msgspec.structs.replace(
        read,
        state_dir=str(Path(read.state_dir).expanduser().resolve()),
        # Not resolved: a virtual environment's python is a link that must be called by its own name.
        python=str(Path(python).absolute()),
        workers_path=[str(Path(path).expanduser().absolute()) for path in read.workers_paths],
        consumer_dir=str(here / Path(read.consumer_dir).expanduser()),
    )
