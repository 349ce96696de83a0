"""What is kept in the engine's state directory: a file for each instance, and one each of money, hosts and labels.

<state>/fleets/vast/<mark>/<worker id>.json   an instance (readable by its owner alone: it has a token)
<state>/fleets/vast/<mark>/spend.json         what was spent today
<state>/fleets/vast/<mark>/hosts.json         the black list
<state>/fleets/vast/<mark>/labels.json        labels of instances that are not to be
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes.records import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T")


class VastRecord(msgspec.Struct, kw_only=True):
    """An instance, as it is written down. Times are Unix times, money is dollars an hour."""

    #: On the instance, and on no other: the mark, the worker, and a number of this order.
    label: str
    #: Vast's number; 0: the answer to the order has not come.
    contract_id: int = 0
    endpoint: str = ""
    workergroup_id: int = 0
    environment: dict[str, str] = {}
    #: The kind of machine, as `Wanted` has it.
    wanted: dict[str, Any] = {}
    machine_id: int = 0
    price_per_hour: float = 0.0
    storage_price_per_hour: float = 0.0
    ordered_at: float = 0.0
    #: Was seen to run, since it was created or started.
    has_run: bool = False
    #: Was told to stop, and not to start since; when.
    stopped: bool = False
    stopped_at: float = 0.0
    #: How it ended, where it did by itself.
    ended: str = ""

    @property
    def rate_per_hour(self) -> float:
        """What is paid for it now."""
        if not self.contract_id:
            return 0.0
        is_paid = not self.stopped and not self.ended
        return self.storage_price_per_hour + (self.price_per_hour if is_paid else 0.0)


class VastRecords:
    """All that is kept of one mark: the instances, and some tables."""

    def __init__(self, state_dir: str, mark: str) -> None:
        self._root = Path(state_dir) / "fleets" / "vast" / safe_name(mark)
        #: The instances, by their workers.
        self.by_worker: dict[int, VastRecord] = {}

    @property
    def rate_per_hour(self) -> float:
        """What all instances cost now, in dollars."""
        return sum(record.rate_per_hour for record in self.by_worker.values())

    def load(self) -> None:
        """Makes the directory, and reads the instances that are there. Raises FleetError."""
        with _told():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in self._root.glob("*.json"):
                if path.stem.isascii() and path.stem.isdigit():
                    with contextlib.suppress(msgspec.DecodeError):
                        self.by_worker[int(path.stem)] = msgspec.json.decode(path.read_bytes(), type=VastRecord)

    def save(self, worker_id: int) -> None:
        """Writes an instance down in one step. Raises FleetError."""
        self.save_table(str(worker_id), self.by_worker[worker_id])

    def remove(self, worker_id: int) -> None:
        """Removes an instance. Raises FleetError."""
        self.by_worker.pop(worker_id, None)
        with _told():
            (self._root / f"{worker_id}.json").unlink(missing_ok=True)

    def load_table(self, name: str, kind: type[T]) -> T:
        """What is kept under a name, or an empty one of its kind. Raises FleetError."""
        with _told(), contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode((self._root / f"{name}.json").read_bytes(), type=kind)
        return kind()

    def save_table(self, name: str, content: object) -> None:
        """Writes something down in one step. Raises FleetError."""
        temporary = self._root / f".{name}.json"
        with _told():
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(content))
            temporary.replace(self._root / f"{name}.json")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Makes what the operating system refuses a `FleetError`."""
    try:
        yield
    except OSError as error:
        raise FleetError(f"The state directory of the Vast fleet cannot be used ({error}).") from error
