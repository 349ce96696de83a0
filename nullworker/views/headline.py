"""An endpoint in one sentence: "4 of 4 held, max_workers 4, 7 wait, next in about 40 s"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.causes import Blocker
from nullworker.views.text import counted, duration

if TYPE_CHECKING:
    from nullworker.core.views import EndpointView
    from nullworker.views.types import Eta


def headline(view: EndpointView, unresponsive: int, following: Eta) -> str:
    """The sentence, without its full stop.

    Args:
        view: the endpoint now.
        unresponsive: how many of the workers that are up send no reports.
        following: when the first that waits may get its worker.
    """
    up = view.observed.ready + view.observed.held
    coming = sum(view.workers.get(state, 0) for state in ("asked", "creating", "loading", "starting"))
    leaving = sum(view.workers.get(state, 0) for state in ("draining", "error", "stopping", "destroying"))
    parts = [] if view.state == "active" else [view.state]
    if unresponsive and unresponsive == up:
        parts.append(f"0 of {up} workers answer")
    elif up:
        parts.append(f"{view.observed.held} of {up} held")
        if unresponsive:
            parts.append(f"{unresponsive} do not answer" if unresponsive > 1 else "1 does not answer")
    else:
        parts.append("no worker is up")
    if coming:
        parts.append(f"{coming} coming up")
    if leaving:
        parts.append(f"{leaving} leaving")
    if view.why_code == Blocker.AT_CAP.value:
        parts.append(f"max_workers {view.wanted.max_workers}")
    failing = max(view.workergroups, key=lambda group: group.failures, default=None)
    if failing is not None and failing.failures and view.why_code == Blocker.BACKING_OFF.value:
        parts.append(f"{counted(failing.failures, 'start')} failed in a row")
    if view.why_code == Blocker.NO_PLACE.value:
        parts.append("there is no place for another")
    if view.waiting:
        parts.append(f"{view.waiting} wait" if view.waiting > 1 else "1 waits")
        parts.append(_next(following))
    return ", ".join(parts)


def _next(following: Eta) -> str:
    if following.in_s is None:
        return "no time can be told"
    return "next at any moment" if following.in_s < 1 else f"next in about {duration(following.in_s)}"
