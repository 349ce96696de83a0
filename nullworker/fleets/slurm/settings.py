"""The settings of the Slurm fleet: the keys of ``[fleet.slurm]``, checked when the fleet is opened."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from nullworker.fleets.base import FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping


class SlurmSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings with their defaults."""

    #: The engine's state directory; the engine gives it.
    state_dir: str
    #: A directory that all nodes and the engine see under the same name; "": the state directory.
    shared_dir: str = ""
    #: The interpreter on the nodes, with ``nullworker[worker]`` installed for it.
    python: str = sys.executable
    #: What each job asks for; "" and 0: what Slurm does by itself.
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time_limit_min: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0
    gpus_per_worker: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    #: The kind of GPU, as in ``--gres=gpu:KIND:1``; "": any.
    gpu_kind: str = ""
    #: Further options of ``sbatch``.
    options: list[str] = []
    #: The address that workers listen on and are reached at; "": that from which their node reaches the engine.
    host: str = ""
    workers_path: str | list[str] = []
    consumer_dir: str = ""
    #: So many jobs may wait in Slurm's queue; a further worker is a shortage, with Slurm's reason.
    backlog: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    #: How often Slurm is asked for its queue, at most.
    queue_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 30.0
    #: How long before a job's time limit its worker gets nothing new.
    notice_s: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 300.0

    @property
    def workers_paths(self) -> list[str]:
        """``workers_path`` as a list."""
        return [self.workers_path] if isinstance(self.workers_path, str) else self.workers_path


def read_settings(settings: Mapping[str, object]) -> SlurmSettings:
    """The settings out of a configuration's table, with absolute paths.

    Raises:
        FleetError: a key is unknown, missing or of a wrong type, or this machine has none of Slurm's commands.
    """
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
    try:
        read = msgspec.convert(plain, SlurmSettings)
    except msgspec.ValidationError as error:
        raise FleetError(f"The settings of the Slurm fleet are wrong ({error}): correct [fleet.slurm].") from error
    missing = [program for program in ("sbatch", "squeue", "scancel") if shutil.which(program) is None]
    if missing:
        raise FleetError(
            f"The Slurm fleet needs {', '.join(missing)} on this machine (Debian: slurm-client): run the engine on a "
            "login node."
        )
    state_dir = str(Path(read.state_dir).expanduser().resolve())
    return msgspec.structs.replace(
        read,
        state_dir=state_dir,
        shared_dir=str(Path(read.shared_dir).expanduser().absolute()) if read.shared_dir else state_dir,
        workers_path=[str(Path(path).expanduser().absolute()) for path in read.workers_paths],
        consumer_dir=str(Path(read.consumer_dir).expanduser().absolute()),
    )
