"""A worker's own clock, by which its grants expire.

Wall clocks are set, and those of two machines differ. So a worker that numbers its reports states in them what its own
steady clock shows, and which clock that is; the engine says in a grant until when it is good, by that clock.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerTime(NamedTuple):
    """A moment, by one worker's clock."""

    clock: str  # the clock's name
    at_s: float


def _steady_s() -> float:
    """Seconds of a clock that is never set, and that goes on while the machine is suspended, where there is one."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)  # Linux
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


class WorkerClock:
    """A clock of this process, under a name that no other clock has.

    Args:
        steady_s: gives the seconds of a clock that is never set.
        unix_s: gives the Unix time, for grants that state nothing else.
    """

    def __init__(self, steady_s: Callable[[], float] = _steady_s, unix_s: Callable[[], float] | None = None) -> None:
        self._name = secrets.token_hex(8)
        self._steady_s = steady_s
        self.unix_s = unix_s or time.time  # noqa: TID251 - all that engine and worker share without such a clock

    def now(self) -> WorkerTime:
        """What it shows now."""
        return WorkerTime(self._name, self._steady_s())
