"""What the fleet keeps beside its instances: the day's money, hosts that have failed, and labels that are not to be.

All of it is in the engine's state directory, so that a restart neither resets the cap nor forgets a host.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from nullworker.fleets.base import ShortageError
from nullworker.fleets.vast import wording
from nullworker.fleets.vast.blacklist import BlackList
from nullworker.fleets.vast.spend import Spend

if TYPE_CHECKING:
    from nullworker.fleets.vast.records import VastRecords

#: How long a label is remembered whose instance is not to be: Vast may list what was ordered only later.
CONDEMNED_S = 3600.0
#: What was spent is written down so often: the next engine counts from there on, at the rate that is written with it.
SAVED_S = 30.0


def wall_s() -> float:
    """Unix time: what is kept is compared after restarts, and a day of the bill is UTC's."""
    return time.time()  # noqa: TID251 - see above


class Books:
    """Money, hosts and labels."""

    def __init__(self, records: VastRecords, cap: float) -> None:
        """Takes where they are kept, and the cap of a day in dollars."""
        self._records = records
        self._cap = cap
        self._spend = Spend()
        self._hosts = BlackList()
        self._condemned: dict[str, float] = {}
        self._condemned_here: dict[str, float] = {}  # the same by the event loop's clock
        self._saved_at = 0.0

    def load(self) -> None:
        """Reads what an earlier engine left, and counts the time in between. Raises FleetError."""
        self._spend = self._records.load_table("spend", Spend)
        self._hosts = self._records.load_table("hosts", BlackList)
        self._condemned = self._records.load_table("labels", dict[str, float])
        self._spend.advance(wall_s())

    @property
    def spent_today(self) -> float:
        """In dollars."""
        return self._spend.spent

    def count(self, rate_per_hour: float) -> None:
        """Counts what ran until now, and notes what runs from now on. Raises FleetError.

        Args:
            rate_per_hour: of all instances, in dollars.
        """
        now = wall_s()
        self._spend.advance(now)
        if rate_per_hour != self._spend.rate_per_hour or not 0 <= now - self._saved_at < SAVED_S:
            self._spend.rate_per_hour, self._saved_at = rate_per_hour, now
            self._records.save_table("spend", self._spend)

    def check_cap(self, rate_per_hour: float, more_per_hour: float) -> None:
        """Whether something more may run today.

        Args:
            rate_per_hour: what runs, in dollars.
            more_per_hour: what would run besides.

        Raises:
            ShortageError: the cap leaves no room for it.
        """
        self.count(rate_per_hour)
        if not self._spend.takes(self._cap, more_per_hour):
            raise ShortageError(wording.spend_cap(self._spend.spent, self._cap, rate_per_hour + more_per_hour))

    def strike(self, machine_id: int) -> None:
        """A host has failed. Raises FleetError."""
        if machine_id:
            self._hosts.strike(machine_id, wall_s())
            self._records.save_table("hosts", self._hosts)

    def is_listed(self, machine_id: int) -> bool:
        """Whether a host is on the black list now."""
        return self._hosts.has(machine_id, wall_s())

    def condemn(self, label: str) -> None:
        """The instance with a label is not to be, whenever Vast lists it. Raises FleetError."""
        now = wall_s()
        kept = {each: at for each, at in self._condemned.items() if now - at < CONDEMNED_S}
        self._condemned = {**kept, label: now}
        self._condemned_here[label] = asyncio.get_running_loop().time()
        self._records.save_table("labels", self._condemned)

    def is_condemned(self, label: str, listed_at: float = float("inf")) -> bool:
        """Whether the instance with a label is not to be.

        Args:
            label: the label.
            listed_at: by a list that was asked for at this time of the event loop; one from before does not count.
        """
        return label in self._condemned and listed_at > self._condemned_here.get(label, 0.0)

    @property
    def has_condemned(self) -> bool:
        """Whether there may be instances that are not to be."""
        now = wall_s()
        return any(now - at < CONDEMNED_S for at in self._condemned.values())
