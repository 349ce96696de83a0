"""Messages between the four parties: late, lost, doubled and out of order as the faults say, links cut for a while."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from nullworker.simulation.event_queue import EventQueue
    from nullworker.simulation.faults import Faults


class Link(enum.Enum):
    """The two parties of a connection."""

    CLIENT_ENGINE = "cut_clients"
    WORKER_ENGINE = "cut_workers"
    CLIENT_WORKER = "cut_sessions"
    ENGINE_FLEET = "cut_fleet"

    __hash__ = object.__hash__  # of its identity: an enum's own is computed each time


LATENCY_S = 0.002


class Network:
    """All links. ``faults`` is the world's, and may change at any time."""

    def __init__(self, queue: EventQueue, random: Random, faults: Faults) -> None:
        self._queue = queue
        self.random = random
        self.faults = faults
        #: Until when a link is cut.
        self.cut_until: dict[Link, float] = dict.fromkeys(Link, 0.0)

    def start(self) -> None:
        """Begins to cut the links whose fault is on."""
        for link in Link:
            if getattr(self.faults, link.value):
                self._queue.after(self.random.uniform(5, 90), self._cut, link)

    def _cut(self, link: Link) -> None:
        strength = getattr(self.faults, link.value)
        if strength:
            self.cut_until[link] = self._queue.now + self.random.uniform(0.5, 1 + 60 * strength)
            self._queue.after(self.random.uniform(30, 120), self._cut, link)

    def heal(self) -> None:
        """All links work from now on."""
        self.cut_until = dict.fromkeys(Link, 0.0)

    def send(self, link: Link, receive: Callable[..., object], *arguments: Any) -> bool:
        """Sends a message, which calls ``receive`` when it arrives; whether it will (its sender cannot know)."""
        faults = self.faults
        now = self._queue.now
        if self.cut_until[link] > now or (faults.loss and self.random.random() < 0.3 * faults.loss):
            return False
        self._queue.after(self.latency_s(), receive, *arguments)
        return True

    def latency_s(self) -> float:
        """How long one message takes now."""
        faults = self.faults
        if faults.delay and self.random.random() < 0.3:
            return LATENCY_S + min(20.0, self.random.expovariate(1 / (5 * faults.delay)))
        return LATENCY_S

    def answer_is_lost(self, link: Link) -> bool:
        """Whether the answer to a request that was carried out gets lost on its way back."""
        faults = self.faults
        if self.cut_until[link] > self._queue.now:
            return True
        lost = 0.2 * faults.answers_lost + 0.3 * faults.loss
        return bool(lost) and self.random.random() < lost
