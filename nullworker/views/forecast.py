"""When a waiter may get its worker: from how long starts and holds took lately, and always with what it is made from.

It is an estimate, never a promise, and no decision reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.causes import Blocker
from nullworker.views.history import median, remaining_s
from nullworker.views.text import counted, duration
from nullworker.views.types import Eta

if TYPE_CHECKING:
    from nullworker.core.views import EndpointView
    from nullworker.views.history import History

#: While an endpoint waits for these, no time can be told.
_NO_TIME = {
    Blocker.ENDPOINT_STOPPED.value: "the endpoint is stopped",
    Blocker.ENDPOINT_SUSPENDED.value: "the endpoint is suspended",
    Blocker.NO_WORKERGROUP.value: "the endpoint has no workergroup",
    Blocker.CLIENT_SILENT.value: "no client of those that wait has asked lately",
}
#: While it waits for these, the next worker is one that is yet to be created.
_TO_BE_CREATED = frozenset(
    blocker.value for blocker in (Blocker.SCALING_UP, Blocker.BACKING_OFF, Blocker.NO_PLACE, Blocker.IN_TIME)
)


class Forecast:
    """The workers that an endpoint may have free, soonest first, as of one moment."""

    def __init__(self, view: EndpointView, history: History, now_s: float) -> None:
        """Estimates for all positions at once.

        Args:
            view: the endpoint now.
            history: how long starts and holds took.
            now_s: Unix time.
        """
        self._never = _NO_TIME.get(view.why_code, "")
        boots = history.boots_s(group.id for group in view.workergroups)
        holds = history.holds_s(view.id)
        coming = list(history.booting.get(view.id, {}).values())
        held = list(history.held.get(view.id, {}).values())
        arrivals = [remaining_s(boots, now_s - since_s) for since_s in coming]
        releases = [remaining_s(holds, now_s - since_s) for since_s in held]
        self._times = sorted(max(0.0, each) for each in (*arrivals, *releases) if each is not None)
        self._grounds = []
        if coming:
            self._grounds.append(_ground(f"{len(coming)} coming up", "start", boots))
        if held:
            self._grounds.append(_ground(f"{len(held)} held", "hold", holds))
        self._new_s: float | None = None
        if not coming and view.why_code in _TO_BE_CREATED:
            self._grounds.append(_ground("a worker is to be created", "start", boots))
            pause_s = min((g.next_try_in_s for g in view.workergroups), default=0.0)
            self._new_s = median(boots) + pause_s if boots else None

    def of(self, position: int) -> Eta:
        """For the waiter at this position, from 1."""
        if self._never:
            return Eta(None, self._never)
        ground = "; ".join(self._grounds) or "nothing is coming up, and nothing is held"
        found = self._times[position - 1] if position <= len(self._times) else None
        if self._new_s is not None and (found is None or self._new_s < found):
            found = self._new_s
        return Eta(found, ground)


def _ground(what: str, lasting: str, durations: list[float]) -> str:
    if not durations:
        return f"{what}, and no {lasting} was seen to its end yet"
    return f"{what}, median {lasting} {duration(median(durations))} of the last {counted(len(durations), lasting)}"
