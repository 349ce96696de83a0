"""What is kept of an instance, in the engine's state directory: one file each, and one of jobs to be removed.

Ray forgets all jobs when its head is started again, and has no word for a worker that is stopped.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.fleets.processes.records import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEFT_NAME = "left.json"


class RayRecord(msgspec.Struct, kw_only=True):
    """An instance, as it is written down."""

    spec: dict[str, Any]  # an `InstanceSpec`
    settings: dict[str, Any]  # what its job needs of the fleet's settings
    job_id: str  # its submission id
    #: Where its job runs or ran, as Ray names the node; "": not known.
    node_id: str = ""
    #: "created" or "started": its latest submission has had no answer, and its job may not be there. "": it is.
    unsure: str = ""
    #: Was told to stop, and not to start since.
    stopped: bool = False
    #: How it ended, where it did by itself.
    ended: str = ""


class LeftJob(msgspec.Struct, kw_only=True):
    """A job of no instance any more, which is removed from Ray's list once it has ended."""

    worker_id: int
    node_id: str = ""
    #: What it waits for, where it stands for a shortage: with the labels of the node, and without.
    kind: str = ""
    shape: str = ""


class RayRecords:
    """All instances of one mark."""

    def __init__(self, state_dir: str, mark: str) -> None:
        self._root = Path(state_dir) / "fleets" / "ray" / safe_name(mark)

    def prepare(self) -> None:
        """Makes the directory. Raises OSError."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def load_all(self) -> Iterator[tuple[int, RayRecord]]:
        """The instances that are there, with their ids. Raises OSError."""
        for path in self._root.glob("*.json"):
            if path.stem.isascii() and path.stem.isdigit():
                with contextlib.suppress(msgspec.DecodeError):
                    yield int(path.stem), msgspec.json.decode(path.read_bytes(), type=RayRecord)

    def load_left(self) -> dict[str, LeftJob]:
        """The jobs that are to be removed, by their ids. Raises OSError."""
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode((self._root / _LEFT_NAME).read_bytes(), type=dict[str, LeftJob])
        return {}

    def save(self, worker_id: int, record: RayRecord) -> None:
        """Writes an instance down in one step. Raises OSError."""
        self._write(f"{worker_id}.json", msgspec.json.encode(record))

    def save_left(self, jobs: dict[str, LeftJob]) -> None:
        """Writes down which jobs are to be removed. Raises OSError."""
        self._write(_LEFT_NAME, msgspec.json.encode(jobs))

    def remove(self, worker_id: int) -> None:
        """Removes an instance. Raises OSError."""
        (self._root / f"{worker_id}.json").unlink(missing_ok=True)

    def _write(self, name: str, content: bytes) -> None:
        temporary = self._root / f".{name}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.replace(self._root / name)
