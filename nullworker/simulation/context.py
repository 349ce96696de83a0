"""What all parts of a simulated world share: clock and queue of events, network, faults, random streams."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from nullworker.simulation.event_queue import EventQueue
from nullworker.simulation.network import Network

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.simulation.faults import Faults


class Context:
    """A leaf: every other part takes one, and none of them is known here.

    Args:
        seed: what all random streams are drawn from.
        faults: what may go wrong; replaced when the faults end.
        usual_delays_s: delays that much is put off by (see `EventQueue`).
    """

    __slots__ = ("fates", "faults", "injected", "network", "queue", "random")

    def __init__(self, seed: int, faults: Faults, usual_delays_s: Iterable[float]) -> None:
        self.queue = EventQueue(usual_delays_s)
        self.faults = faults
        self.network = Network(self.queue, Random(f"{seed} network"), faults)
        #: One stream for each purpose: a draw more for one leaves the others as they are.
        self.random = Random(f"{seed} world")
        self.injected = Random(f"{seed} trouble")
        self.fates = Random(f"{seed} fates")

    @property
    def now(self) -> float:
        """The world's true time in seconds."""
        return self.queue.now

    def draw_anew(self, seed: str) -> None:
        """From now on chance is another: all random streams begin again, from ``seed``."""
        self.network.random.seed(f"{seed} network")
        self.random.seed(f"{seed} world")
        self.injected.seed(f"{seed} trouble")
        self.fates.seed(f"{seed} fates")

    def set_faults(self, faults: Faults) -> None:
        """From now on these go wrong."""
        self.faults = self.network.faults = faults
