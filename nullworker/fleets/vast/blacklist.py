"""Hosts that have failed lately, and are left out for a time that grows with each failure and decays by itself."""

from __future__ import annotations

import msgspec

#: A failure counts half after so long.
HALF_LIFE_S = 1800.0
#: A machine is left out as long as its failures count more than this: one failure, half an hour; two, an hour.
LISTED_ABOVE = 0.5
#: What counts less is forgotten.
_FORGOTTEN = 0.01
#: So many machines are remembered, those with the most failures.
_MACHINES_MAX = 10_000


class Failures(msgspec.Struct):
    """What one machine's failures count, at a moment."""

    count: float
    at: float  # Unix time


class BlackList(msgspec.Struct):
    """The machines that have failed, by their ids. Times are Unix times."""

    machines: dict[int, Failures] = {}

    def strike(self, machine_id: int, now: float, weight: float = 1.0) -> None:
        """A machine has failed.

        Args:
            machine_id: Vast's number of it.
            now: when.
            weight: how much it counts.
        """
        self.machines[machine_id] = Failures(self.count(machine_id, now) + weight, now)
        kept = {each: failures for each, failures in self.machines.items() if self.count(each, now) > _FORGOTTEN}
        most = sorted(kept, key=lambda each: -self.count(each, now))[:_MACHINES_MAX]
        self.machines = {each: kept[each] for each in most}

    def count(self, machine_id: int, now: float) -> float:
        """What a machine's failures count now."""
        failures = self.machines.get(machine_id)
        if failures is None:
            return 0.0
        return float(failures.count * 0.5 ** (max(0.0, now - failures.at) / HALF_LIFE_S))

    def has(self, machine_id: int, now: float) -> bool:
        """Whether a machine is left out now."""
        return self.count(machine_id, now) > LISTED_ABOVE
