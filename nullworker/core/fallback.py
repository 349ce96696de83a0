"""Which workergroup of an endpoint grows: the cheapest that may, or a dearer one in its place.

A workergroup is *unable* from the first failure that counted (a fleet without a place, workers that do not start) until
one of its workers that was ordered later gets ready. One with a `fallback_after_s` is a *stand-in*: it grows only while
every cheaper one that is unable has been so for that long, and when these are able again its free workers go at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.core.endpoint import Endpoint
    from nullworker.core.state import EngineState
    from nullworker.core.workergroup import Workergroup


def next_to_grow(state: EngineState, endpoint: Endpoint) -> Workergroup | None:
    """The cheapest workergroup that may have another worker now."""
    able = (
        group
        for group in endpoint.workergroups.values()
        if group.may_grow(state.now) and waits_until(state, endpoint, group) is None
    )
    return min(able, key=_rank, default=None)


def waits_until(state: EngineState, endpoint: Endpoint, workergroup: Workergroup) -> float | None:
    """Until when a workergroup leaves it to cheaper ones; None: it does not; infinity: until one of them says more."""
    after_s = workergroup.spec.fallback_after_s
    if not after_s:
        return None
    latest = state.now
    for cheaper in _cheaper(endpoint, workergroup):
        if cheaper.unable_since is not None and cheaper.is_unable(state.now):
            latest = max(latest, cheaper.unable_since + after_s)
        elif not cheaper.is_full and not cheaper.may_grow(state.now):
            latest = math.inf  # it failed before, and is tried with one worker at a time, which is on its way
    return latest if latest > state.now else None


def able_instead(state: EngineState, endpoint: Endpoint, workergroup: Workergroup) -> Workergroup | None:
    """The workergroup that may grow in place of this one, a stand-in; None: there is none."""
    if not workergroup.spec.fallback_after_s:
        return None
    able = (
        cheaper
        for cheaper in _cheaper(endpoint, workergroup)
        if cheaper.may_grow(state.now) and not cheaper.is_unable(state.now)
    )
    return min(able, key=_rank, default=None)


def plan(state: EngineState, endpoint: Endpoint) -> None:
    """Sets timers for the ends of the time that stand-ins wait for, and of that for which cheaper ones are unable."""
    ends: set[float | None] = set()
    for workergroup in endpoint.workergroups.values():
        if workergroup.spec.fallback_after_s:
            ends |= {
                cheaper.failed_at + limits.UNABLE_FORGOTTEN_S
                for cheaper in _cheaper(endpoint, workergroup)
                if cheaper.is_unable(state.now)
            }
            ends.add(waits_until(state, endpoint, workergroup))
    for end in sorted(end for end in ends if end is not None and end < math.inf):
        state.timers.set(end, Timer.SCALE, endpoint.endpoint_id)


def _rank(workergroup: Workergroup) -> tuple[float, float]:
    """Cheaper ones come first; of those that cost the same, which wait for the others for a shorter time."""
    return workergroup.price_for_perf, workergroup.spec.fallback_after_s


def _cheaper(endpoint: Endpoint, workergroup: Workergroup) -> Iterator[Workergroup]:
    rank = _rank(workergroup)
    return (other for other in endpoint.workergroups.values() if not other.deleted and _rank(other) < rank)
