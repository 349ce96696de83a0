"""A dry run: the engine decides as it would, and a fleet that does nothing takes its orders.

Its workers are created as far as the engine can see, and never report: what waits goes on to wait. It works in a state
directory of its own, which is removed in the end: of a real engine's, the account key is read, and nothing is changed.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError, Instance, InstanceState, no_notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nullworker.engine.config import EngineConfig
    from nullworker.engine.decisions import Decision
    from nullworker.fleets.base import InstanceSpec, Notice

COMPLAINT = (
    "This engine is a dry run: it decides, and orders nothing; no worker is started, and what waits goes on to wait."
)
_KEY_FILE = "api_key"
_ORDERS = frozenset({"create", "start", "stop", "destroy"})


class DryFleet:
    """Takes every order and carries none out (`nullworker.fleets.base.Fleet`)."""

    def __init__(self) -> None:
        self._instances: dict[int, Instance] = {}

    @classmethod
    async def open(
        cls,
        _settings: Mapping[str, object],
        _mark: str,
        _on_exit: Callable[[int, str], None],
        _on_notice: Callable[[Notice], None] = no_notice,
    ) -> DryFleet:
        """There is nothing to open."""
        return cls()

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:
        """It takes all."""

    async def create(self, spec: InstanceSpec) -> None:
        """Remembers it."""
        instance = Instance(
            spec.worker_id, InstanceState.RUNNING, endpoint=spec.endpoint, workergroup_id=spec.workergroup_id
        )
        self._instances.setdefault(spec.worker_id, instance)

    async def start(self, worker_id: int) -> None:
        """Remembers it."""
        self._set(worker_id, InstanceState.RUNNING)

    async def stop(self, worker_id: int) -> None:
        """Remembers it."""
        self._set(worker_id, InstanceState.STOPPED)

    def _set(self, worker_id: int, state: InstanceState) -> None:
        known = self._instances.get(worker_id)
        if known is None:
            raise FleetError(f"There is no worker {worker_id} in this dry run.")
        self._instances[worker_id] = replace(known, state=state)

    async def destroy(self, worker_id: int) -> None:
        """Forgets it."""
        self._instances.pop(worker_id, None)

    async def list(self) -> list[Instance]:
        """What would be there."""
        return list(self._instances.values())

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:  # noqa: ARG002 - the protocol's
        """Nothing is printed."""
        return b""

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:  # noqa: ARG002 - the protocol's
        """There is nothing to close."""
        self._instances.clear()


@contextlib.contextmanager
def scratch(config: EngineConfig) -> Iterator[EngineConfig]:
    """The configuration with a state directory that is removed in the end; it has the account key of the real one."""
    with TemporaryDirectory(prefix="nullworker-dry-run-") as name:
        state = Path(name)
        with contextlib.suppress(OSError):
            shutil.copyfile(config.state / _KEY_FILE, state / _KEY_FILE)
            (state / _KEY_FILE).chmod(0o600)
        yield replace(config, state=state)


def would(decision: Decision) -> str:
    """What an order would have been, as a line; "": the decision is none."""
    if decision.kind not in _ORDERS:
        return ""
    return f"would {decision.kind} worker {decision.worker_id}: {decision.reason}"
