"""Everything that can go wrong, with a name, a switch and an intensity. A seed draws which are on and how strong.

An intensity is a number from 0 (off) to 1 (as bad as it gets); what 1 means is said beside each name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random


@dataclass(slots=True)
class Faults:
    """How strong each fault is; 0 is off."""

    # --- network
    loss: float = 0.0  # messages lost: 1 = 30 %
    duplicate: float = 0.0  # reports delivered twice: 1 = 50 %
    delay: float = 0.0  # exponential delays of messages (so they are reordered): 1 = 5 s on average
    answers_lost: float = 0.0  # the request is carried out and its answer lost: 1 = 20 %
    half_open: float = 0.0  # a connection that broke is not noticed: 1 = always
    cut_clients: float = 0.0  # clients cannot reach the engine for a while: 1 = cuts of up to 60 s, every minute
    cut_workers: float = 0.0  # workers cannot reach the engine: likewise
    cut_sessions: float = 0.0  # clients cannot reach workers: likewise
    cut_fleet: float = 0.0  # the engine cannot reach its fleet: likewise
    # --- engine
    kill: float = 0.0  # killed between two effects: 1 = every 30 s
    store_lag: float = 0.0  # what is written behind is late: 1 = 2 s (0.05 s without)
    ledger_lost: float = 0.0  # a kill, and all that was written down is lost: 1 = at half of the kills
    pause: float = 0.0  # the process stands still: 1 = up to 120 s, every two minutes
    clock_forward: float = 0.0  # the clock jumps ahead: 1 = up to an hour
    clock_backward: float = 0.0  # the clock falls back: 1 = up to 3 s
    # --- workers
    crash: float = 0.0  # the process dies: 1 = every 100 s of a worker's life
    crash_young: float = 0.0  # it dies while it boots or soon after: 1 = always
    hang: float = 0.0  # neither answers nor reports, for up to 120 s or for ever
    unhealthy: float = 0.0  # reports an error, which never clears; its session runs on
    restart: float = 0.0  # the process restarts under the same id: it counts from zero
    never_ready: float = 0.0  # loads for ever: 1 = half of the workers
    flap: float = 0.0  # reports loading again for a while
    mute: float = 0.0  # reports stop while sessions go on: 1 = up to 60 s
    nonsense: float = 0.0  # reports numbers that are none, requests that were never made
    stale: float = 0.0  # an old report arrives again much later
    # --- fleets
    slow: float = 0.0  # answers take long: 1 = up to 100 s
    refuse: float = 0.0  # orders fail for certain: 1 = 60 %
    unclear: float = 0.0  # orders fail, done or not: 1 = 40 %
    appear_late: float = 0.0  # a create that failed unclearly was made after all, up to 50 s later
    misses: float = 0.0  # a list misses the newest: 1 = those of the last 50 s
    ghosts: float = 0.0  # a list shows what is gone: 1 = of the last 50 s
    ignored: float = 0.0  # a stop or destroy is accepted and not done: 1 = 40 %
    outage: float = 0.0  # everything fails for minutes
    preempt: float = 0.0  # instances are taken away: 1 = every 100 s of an instance's life
    preempt_all: float = 0.0  # all at once: 1 = every five minutes
    unannounced: float = 0.0  # an exit that is not announced: 1 = all
    strays: float = 0.0  # unknown instances have the engine's mark
    # --- clients
    vanish: float = 0.0  # disappear without hanging up, at any time: 1 = half of them
    give_up: float = 0.0  # leave while they wait: 1 = half of them
    use_late: float = 0.0  # come to the worker when the grant has nearly or quite run out: 1 = half of them
    close_twice: float = 0.0
    burst: float = 0.0  # many come at one instant
    # --- operators
    change: float = 0.0  # parameters change on the way: 1 = every minute
    suspend: float = 0.0  # the endpoint is suspended or stopped for a while
    update: float = 0.0  # rolling updates and their cancelling
    delete: float = 0.0  # an endpoint is deleted, drained or by force
    # --- malice
    forge: float = 0.0  # messages about objects that are not the sender's

    def names(self) -> list[str]:
        """Those that are on."""
        return [field.name for field in fields(self) if getattr(self, field.name) > 0]

    def without(self, names: Iterable[str]) -> Faults:
        """The same with these switched off."""
        return replace(self, **dict.fromkeys(names, 0.0))


ALL: tuple[str, ...] = tuple(field.name for field in fields(Faults))


def draw(random: Random, allowed: Iterable[str], *, share: float = 0.4) -> Faults:
    """Switches each of ``allowed`` on with probability ``share``, at an intensity of its own.

    Raises:
        ValueError: there is no fault of such a name.
    """
    chosen: dict[str, float] = {}
    for name in allowed:
        if name not in ALL:
            raise ValueError(f"there is no fault named {name}; there are: {', '.join(ALL)}")
        on, strength = random.random() < share, random.random()
        if on:
            chosen[name] = 0.05 + 0.95 * strength * strength  # mild more often than wild
    return Faults(**chosen)
