"""Which worker has which of the machine's GPUs: never two workers on one.

A worker sees its own GPUs and no others, by ``CUDA_VISIBLE_DEVICES``. It has them from its start until nothing of it
runs any more, so one that ended by itself keeps them until it is destroyed or started again.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError, ShortageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from nullworker.fleets.base import InstanceSpec

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
#: Numbers mean what ``nvidia-smi`` shows, and not the order of speed, which is CUDA's default.
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
_DEVICE = re.compile(r"nvidia(\d+)")


def find_gpus(environ: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """The GPUs that the engine itself may use: those that its environment names, or all of the machine.

    Args:
        environ: the engine's environment.
        devices: where the machine's device files are.
    """
    if VISIBLE_VARIABLE in environ:
        named = [part.strip() for part in environ[VISIBLE_VARIABLE].split(",")]
        return [name for name in named if name and name != "-1"]
    numbers = (_DEVICE.fullmatch(path.name) for path in devices.glob("nvidia*"))
    return [str(number) for number in sorted(int(match[1]) for match in numbers if match)]


class GpuPool:
    """The GPUs of a fleet, and who has them. Used on the event loop's thread alone."""

    def __init__(self, gpus: Sequence[str], gpus_per_worker: int) -> None:
        """Takes what the settings say.

        Args:
            gpus: their numbers or UUIDs, as ``CUDA_VISIBLE_DEVICES`` takes them.
            gpus_per_worker: how many a worker gets whose workergroup says nothing; 0: GPUs are not given to workers.
        """
        self._gpus = tuple(gpus)
        self._per_worker = gpus_per_worker
        self._holders: dict[str, int] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._gpus)

    def take_for(self, spec: InstanceSpec, liked: Collection[str] = ()) -> list[str] | None:
        """Gives a worker that is to run its GPUs.

        Args:
            spec: of the worker; it has none.
            liked: those that it had before, which it gets again where they are free.

        Returns:
            The GPUs; None: it is not kept from using any.

        Raises:
            ShortageError: too few are free.
            FleetError: there are too few in all.
        """
        count = self._per_worker or None if spec.resources.gpus is None else spec.resources.gpus
        return None if count is None else self.take(spec.worker_id, count, liked)

    def take(self, worker_id: int, count: int, liked: Collection[str] = ()) -> list[str]:
        """Gives a worker its GPUs.

        Args:
            worker_id: the worker; it has none.
            count: how many.
            liked: those that it had before, which it gets again where they are free.

        Raises:
            ShortageError: too few are free.
            FleetError: there are too few in all.
        """
        if count > len(self._gpus):
            raise FleetError(
                f"Worker {worker_id} wants {_gpus(count)}, and the process fleet has {len(self._gpus)}: correct gpus "
                "of its workergroup, or gpus of [fleet.processes]."
            )
        free = sorted((gpu for gpu in self._gpus if gpu not in self._holders), key=lambda gpu: gpu not in liked)
        if count > len(free):
            holders = sorted(set(self._holders.values()))
            shown = f"worker{'' if len(holders) == 1 else 's'} {', '.join(map(str, holders))}"
            raise ShortageError(
                f"Worker {worker_id} wants {_gpus(count)}, and {len(free)} of {len(self._gpus)} are free (the others "
                f"are held by {shown})."
            )
        taken = sorted(free[:count], key=self._gpus.index)
        self.hold(worker_id, taken)
        return taken

    def hold(self, worker_id: int, gpus: Collection[str]) -> None:
        """A worker has these already: an engine before this one gave them."""
        self._holders.update(dict.fromkeys(gpus, worker_id))

    def release(self, worker_id: int) -> None:
        """A worker needs its GPUs no more."""
        for gpu in [gpu for gpu, holder in self._holders.items() if holder == worker_id]:
            del self._holders[gpu]


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
