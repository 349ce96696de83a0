"""What the engine says of the worker's end by its place: a time limit, a machine that is taken back.

It comes with the answers to reports. The holder finds it in a header of each answer of the worker about its session,
the consumer in ``/reservation``.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

from nullworker.wire.headers import place_ends

log = logging.getLogger(__name__)

_REASON_CHARACTERS_MAX = 300


class PlaceNotice:
    """When the place ends the worker, and why; nothing until the engine says so."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.reason = ""
        self._ends_at: float | None = None  # by the monotonic clock

    @property
    def in_s(self) -> float | None:
        """In how many seconds; None: nothing is known of an end."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    @property
    def header(self) -> str:
        """The value of `headers.PLACE_ENDS`; "" where nothing is known."""
        return "" if self.in_s is None else place_ends(self.in_s, self.reason)

    def shown(self) -> dict[str, Any]:
        """The fields of ``/reservation``; the time is Unix time in seconds."""
        at = None if self.in_s is None else time.time() + self.in_s  # noqa: TID251 - as all times of /reservation
        return {"place_ends_at": at, "place_ends_because": self.reason or None}

    def take(self, answer: object) -> None:
        """Takes in the answer to a report; what is no notice is passed over."""
        ends = answer.get("ends") if isinstance(answer, dict) else None
        in_s, reason = (ends.get("in_s"), ends.get("reason")) if isinstance(ends, dict) else (None, None)
        if not isinstance(in_s, (int, float)) or isinstance(in_s, bool) or not math.isfinite(in_s):
            return
        if self._ends_at is None:
            log.warning("the place ends this worker in %.0f s: %s", in_s, reason)
        self._ends_at = time.monotonic() + max(0.0, float(in_s))
        self.reason = " ".join(str(reason or "").split())[:_REASON_CHARACTERS_MAX]
