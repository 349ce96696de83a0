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

    max_workers: int
    jobs: list[str]
    #: Processes that the fault itself killed or stopped: what they had begun may be cut short.
    victims: set[int] = field(default_factory=set)
    most_workers: int = 0
    #: What was seen besides, as sentences that are violations already.
    seen: list[str] = field(default_factory=list)

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
        if self.most_workers > self.max_workers:
            found.append(f"{self.most_workers} workers were alive, and max_workers is {self.max_workers}")
        return [*found, *self.seen, *(f"left behind: {each}" for each in left)]
