"""Which worker is on which host, kept on disk: also while a host does not answer, and over a restart of the engine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nullworker.fleets.base import Instance, InstanceState
from nullworker.fleets.processes.records import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.fleets.base import InstanceSpec, Resources
    from nullworker.fleets.ssh.settings import HostSettings


class Placement(msgspec.Struct, kw_only=True):
    """One worker on a host, as it was last known."""

    host: str
    endpoint: str = ""
    workergroup_id: int = 0
    state: str = InstanceState.RUNNING.value
    detail: str = ""
    address: str = ""
    cpus: float = 0.0
    memory_gb: float = 0.0
    #: Whether the host has said that it is there; else it may be, for the answer to its creation was lost.
    is_sure: bool = False

    def instance(self, worker_id: int, host: HostSettings) -> Instance:
        """What a list says of it.

        Args:
            worker_id: the worker.
            host: its host.
        """
        return Instance(
            worker_id,
            InstanceState(self.state),
            self.detail,
            self.address,
            self.endpoint,
            self.workergroup_id,
            price_per_hour=host.price_per_hour,
        )


class Placements:
    """The workers of one mark, by id, in a file."""

    def __init__(self, state_dir: str, mark: str) -> None:
        self._path = Path(state_dir) / "fleets" / "ssh" / f"{safe_name(mark)}.json"
        self._by_id: dict[int, Placement] = {}

    def load(self) -> None:
        """Takes over what an engine before this one kept; a file that cannot be read is as good as none."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            self._by_id = msgspec.json.decode(self._path.read_bytes(), type=dict[int, Placement])

    def save(self) -> None:
        """Replaces the file. Raises OSError."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".part")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(self._by_id))
        temporary.replace(self._path)

    def get(self, worker_id: int) -> Placement | None:
        """Where a worker is; None: nowhere."""
        return self._by_id.get(worker_id)

    def put(self, worker_id: int, placement: Placement) -> None:
        """A worker is, or may be, on a host."""
        self._by_id[worker_id] = placement

    def remove(self, worker_id: int) -> None:
        """A worker is nowhere."""
        self._by_id.pop(worker_id, None)

    def on(self, host: str) -> Iterator[tuple[int, Placement]]:
        """The workers of a host, with their ids."""
        return ((worker_id, each) for worker_id, each in sorted(self._by_id.items()) if each.host == host)

    def hosts(self) -> set[str]:
        """The hosts that have workers."""
        return {each.host for each in self._by_id.values()}

    def ids(self) -> list[int]:
        """The ids of all workers."""
        return sorted(self._by_id)


def slots_of(host: HostSettings, gpus: int, gpus_per_worker: int) -> int:
    """How many workers a host has at most.

    Args:
        host: its settings.
        gpus: how many GPUs it has for workers.
        gpus_per_worker: how many a worker gets by default.
    """
    if host.slots is not None:
        return host.slots
    return max(1, gpus // gpus_per_worker) if gpus_per_worker else max(1, gpus)


def lacks(host: HostSettings, wanted: Resources) -> str:
    """What a host does not have at all of what a worker wants, as the end of a sentence; "": it has all.

    Args:
        host: the settings of the host.
        wanted: by the worker.
    """
    for name, value in wanted.labels.items():
        if host.labels.get(name) != value:
            return f"is not labelled {name} = {value}"
    for name in ("cpus", "memory_gb"):
        wants, has = getattr(wanted, name), getattr(host, name)
        if wants is not None and has is None:
            return f"has no {name} in [fleet.ssh]"
        if wants is not None and wants > has:
            return f"has {name} = {has:g}, and {wants:g} are wanted"
    return ""


def is_full(host: HostSettings, slots: int, placed: list[Placement], spec: InstanceSpec) -> str:
    """Why a host has no room for another worker now, as the end of a sentence; "": it has.

    Args:
        host: its settings.
        slots: how many workers it has at most.
        placed: those that it has.
        spec: of the worker.
    """
    if len(placed) >= slots:
        return f"has {len(placed)} worker{'' if len(placed) == 1 else 's'} in {slots} slot{'' if slots == 1 else 's'}"
    for name in ("cpus", "memory_gb"):
        wants, has = getattr(spec.resources, name), getattr(host, name)
        used = sum(getattr(each, name) for each in placed)
        if wants is not None and used + wants > has:
            return f"has {used:g} of {name} = {has:g} in use, and {wants:g} are wanted"
    return ""
