"""What is kept of an instance, in the directory that nodes and engine share.

<shared>/fleets/slurm/<mark>/<worker id>/    one directory an instance
instance.json                            how it was made, which job it is (0600: it holds a token)
worker.log                               what it printed
runs.<job id>                            written by its job when the worker runs: the address it is reached at
ended.<job id>                           written by its job at the end: how it ended
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.fleets.processes.records import safe_name
from nullworker.fleets.remnants import Remnants

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_NAME, LOG_NAME, RUNS_NAME, ENDED_NAME = "instance.json", "worker.log", "runs", "ended"
_GONE_PREFIX = ".gone-"


class SlurmRecord(msgspec.Struct, kw_only=True):
    """An instance, as it is written down."""

    spec: dict[str, Any]  # an `InstanceSpec`
    settings: dict[str, Any]  # what its job needs of the fleet's settings
    job_id: int = 0  # 0: not known yet
    #: Its latest submission has had no answer: there may be a job that is not known yet.
    is_unsure: bool = False
    #: Was told to stop, and not to start since.
    stopped: bool = False
    #: How it ended, where Slurm said so and not its job.
    ended: str = ""


class SlurmInstances:
    """All instances of one mark, as directories."""

    def __init__(self, shared_dir: str, mark: str) -> None:
        self.root = Path(shared_dir) / "fleets" / "slurm" / safe_name(mark)
        self.logs_root = Path(shared_dir) / "logs" / "slurm" / safe_name(mark)
        self._remnants = Remnants()
        self._runs: dict[int, tuple[int, str]] = {}  # by worker: its job, and what that wrote when it began

    def prepare(self) -> None:
        """Makes the directory, and removes what an earlier engine could not. Raises OSError."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.root.glob(f"{_GONE_PREFIX}*"):
            self._remnants.try_to_remove(path)

    def path(self, worker_id: int) -> Path:
        """Where an instance is."""
        return self.root / str(worker_id)

    def load_all(self) -> Iterator[tuple[int, SlurmRecord]]:
        """The instances that are there, with their ids. Raises OSError."""
        for path in self.root.iterdir():
            if path.name.isascii() and path.name.isdigit():
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    yield int(path.name), read_record(path)

    def save(self, worker_id: int, record: SlurmRecord) -> None:
        """Writes an instance's record in one step; makes its directory. Raises OSError."""
        path = self.path(worker_id)
        path.mkdir(mode=0o700, exist_ok=True)
        write_whole(path / RECORD_NAME, msgspec.json.encode(record))

    def said(self, worker_id: int, name: str, job_id: int) -> str | None:
        """What a job of an instance wrote into a file; None: nothing yet.

        Args:
            worker_id: the instance.
            name: `RUNS_NAME` or `ENDED_NAME`.
            job_id: the job.
        """
        known = self._runs.get(worker_id)
        if name == RUNS_NAME and known is not None and known[0] == job_id:
            return known[1]
        try:
            text = (self.path(worker_id) / f"{name}.{job_id}").read_text()
        except OSError:
            return None
        if name == RUNS_NAME and text:
            self._runs[worker_id] = (job_id, text)
        return text

    def remove(self, worker_id: int) -> None:
        """Removes an instance; its log is kept. Raises OSError: it is there still."""
        self._remnants.sweep()
        self._runs.pop(worker_id, None)
        path = self.path(worker_id)
        if (path / LOG_NAME).exists():
            self.logs_root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (path / LOG_NAME).replace(self.logs_root / f"worker-{worker_id}.log")
        gone = path.with_name(f"{_GONE_PREFIX}{worker_id}")
        self._remnants.try_to_remove(gone)
        with contextlib.suppress(FileNotFoundError):
            path.rename(gone)
            self._remnants.try_to_remove(gone)

    def log_paths(self, worker_id: int) -> tuple[Path, Path]:
        """Where the log of an instance may be: while it exists, and after it was destroyed."""
        return self.path(worker_id) / LOG_NAME, self.logs_root / f"worker-{worker_id}.log"


def read_record(path: Path) -> SlurmRecord:
    """The record in an instance's directory. Raises OSError, msgspec.DecodeError."""
    record = msgspec.json.decode((path / RECORD_NAME).read_bytes(), type=SlurmRecord)
    record.is_unsure |= not record.job_id  # records of before had no word for it
    return record


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file in one step, readable by its owner alone. Raises OSError."""
    temporary = path.with_name(f".{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
