"""What happened in an episode, and what of it breaks a promise, by the notes of consumers and by the kernel alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass
class History:
    """What was seen of one episode."""

    #: The most workers that each endpoint may have.
    max_workers: dict[str, int]
    jobs: list[str]
    #: Processes that the fault itself killed or stopped: what they had begun may be cut short.
    victims: set[int] = field(default_factory=set)
    #: The most workers that were alive at once, by endpoint.
    most_workers: dict[str, int] = field(default_factory=dict)
    #: What was seen besides, as sentences that are violations already.
    seen: list[str] = field(default_factory=list)

    def alive(self, workers: Counter[str]) -> None:
        """Takes in how many workers are alive now, by endpoint."""
        for endpoint, number in workers.items():
            self.most_workers[endpoint] = max(number, self.most_workers.get(endpoint, 0))

    def violations(self, notes: Path, left: Iterable[str]) -> list[str]:
        """Everything that is not as promised.

        Args:
            notes: the consumers' file.
            left: what was left behind, in words.
        """
        begun: Counter[tuple[str, int]] = Counter()
        ended: Counter[str] = Counter()
        for line in notes.read_text().splitlines() if notes.exists() else ():
            what, payload, pid = line.split(" ")
            begun[payload, int(pid)] += 1 if what == "begin" else -1
            if what == "end":
                ended[payload] += 1
        found = [f"job {job} was never done" for job in self.jobs if not ended[job]]
        found += [
            f"job {payload} was killed (process {pid})"
            for (payload, pid), open_ in begun.items()
            if open_ > 0 and pid not in self.victims
        ]
        found += [
            f"{number} workers of {endpoint} were alive, and its max_workers is {self.max_workers[endpoint]}"
            for endpoint, number in self.most_workers.items()
            if number > self.max_workers[endpoint]
        ]
        # Else the watch is blind, and what it did not see means nothing.
        found += [f"no worker of {each} was ever seen" for each in self.max_workers if not self.most_workers.get(each)]
        return [*found, *self.seen, *(f"left behind: {each}" for each in left)]
