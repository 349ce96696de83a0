"""One seed many times: a crash at every place of its run, and the moment at which a failure became inevitable."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nullworker.simulation.run import Reduction, Result, Variation, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Futures that are tried at each moment.
FUTURES = 50
#: A moment is looked for until it is known to this.
RESOLUTION_S = 0.001
#: A failure is called inevitable from the moment on after which this share of all futures breaks the same promise.
INEVITABLE = 0.95


def crashes(seed: int, scenario: str = "", reduction: Reduction | None = None) -> Iterator[Result]:
    """Runs a seed once as it is and once for each place at which its engine can be killed.

    A place is before, between or after the effects of one event, or before what must not be lost of it is committed.
    The kill comes in addition to what the seed draws, and the engine is started again some time later.

    Args:
        seed: of the world.
        scenario: its kind; "": the one whose turn it is.
        reduction: what is left out of it.

    Yields:
        First the run as it is, then those with a crash.
    """
    as_it_is = run(seed, scenario, reduction)
    yield as_it_is
    for place in range(as_it_is.places):
        yield run(seed, as_it_is.scenario, reduction, variation=Variation(kill_at_place=place))


class Moment(NamedTuple):
    """How many of the futures that begin at a time break the promise."""

    at_s: float
    broken: int
    futures: int

    @property
    def inevitable(self) -> bool:
        """Whether the failure hardly depends on chance any more."""
        return self.broken >= INEVITABLE * self.futures


class Decision(NamedTuple):
    """What was found of a failure: it was open at ``open_at_s`` and inevitable at ``decided_at_s``."""

    open_at_s: float
    decided_at_s: float
    moments: tuple[Moment, ...]  # in the order in which they were tried
    journal: tuple[str, ...]  # what happened in between


def decided_at(failed: Result, futures: int = FUTURES, tell: Callable[[Moment], None] = lambda _: None) -> Decision:
    """Looks for the moment at which a failure became inevitable, by halves.

    Args:
        failed: a run that broke a promise.
        futures: how many are tried at each moment.
        tell: is told of each moment that was tried.

    Raises:
        ValueError: the run broke nothing.
    """
    if failed.failure is None:
        raise ValueError(f"seed {failed.seed} of {failed.scenario} breaks no promise")
    shown = run(failed.seed, failed.scenario, failed.reduction, journal=True, check_every=1)
    promise, low, high = failed.failure.promise, 0.0, shown.simulated_s
    moments: list[Moment] = []
    while high - low > RESOLUTION_S:
        at_s = (low + high) / 2
        moment = _moment(failed, promise, at_s, futures)
        moments.append(moment)
        tell(moment)
        low, high = (low, at_s) if moment.inevitable else (at_s, high)
    between = (
        line
        for line, at_s in zip(shown.journal, shown.journal_times, strict=True)
        if low - RESOLUTION_S <= at_s <= math.nextafter(high, math.inf)
    )
    return Decision(low, high, tuple(moments), tuple(between))


def _moment(failed: Result, promise: str, at_s: float, futures: int) -> Moment:
    broken = 0
    for future in range(futures):
        variation = Variation(drawn_anew_at_s=at_s, future=future)
        tried = run(failed.seed, failed.scenario, failed.reduction, variation=variation, check_every=1)
        broken += tried.failure is not None and tried.failure.promise == promise
        if broken + futures - future - 1 < INEVITABLE * futures:
            return Moment(at_s, broken, future + 1)  # it cannot become inevitable any more
    return Moment(at_s, broken, futures)
