"""The headers beyond Vast's own wire: that in which an engine lists its features, and that of callbacks.

An engine of ours sends ``X-Nullworker: prompt-reports, grants`` with its answer to ``/pubkey/``. Vast's own does not,
and a worker that sees no such header behaves as Vast's framework does.
"""

from __future__ import annotations

import math
from urllib.parse import quote, unquote

#: Sent by the engine with its answer to ``GET /pubkey/``: a list of the words below, separated by commas.
FEATURES = "X-Nullworker"

#: The engine wants a report at once when a session opens, closes or is refused, and not only on the framework's tick.
PROMPT_REPORTS = "prompt-reports"

#: The engine puts a ``grant`` into each route answer, and a worker is to open no session without one.
GRANTS = "grants"

#: With ``POST /route/``: for how many seconds at most the call is to be held. A client whose patience ends hears so why
#: there is no worker yet, before it goes.
HOLD_AT_MOST = "X-Nullworker-Hold-At-Most"

#: An operator's reason for an act, percent-encoded: it goes into the audit log.
REASON = "X-Nullworker-Reason"


#: Bears every callback that a worker makes (``on_close_route``). Control ports and engines refuse what has it: a client
#: chooses the callback's URL, and must not reach with the worker's hand what it cannot reach itself.
CALLBACK = "X-Nullworker-Callback"

#: With a worker's answers about a session, when its place will end it: the seconds until then, and the place's reason,
#: percent-encoded, after a semicolon.
PLACE_ENDS = "X-Nullworker-Place-Ends"


def place_ends(in_s: float, reason: str) -> str:
    """The value of `PLACE_ENDS`."""
    return f"{in_s:.1f};{quote(reason, safe=' ')}"


def read_place_ends(value: str) -> tuple[float, str] | None:
    """Seconds and reason of a `PLACE_ENDS` header; None: there is none, or it is not as it is to be."""
    seconds, _, reason = value.partition(";")
    try:
        in_s = float(seconds)
    except ValueError:
        return None
    return (in_s, " ".join(unquote(reason).split())) if math.isfinite(in_s) and in_s >= 0 else None


def read_hold_at_most(value: str | None) -> float:
    """Seconds of a `HOLD_AT_MOST` header; infinity: there is none, or it is not as it is to be."""
    try:
        seconds = float(value or "inf")
    except ValueError:
        return math.inf
    return seconds if seconds >= 0 else math.inf


def features(value: str | None) -> frozenset[str]:
    """The features in a FEATURES header; none when ``value`` is None. Unknown ones are kept, and do nothing."""
    if value is None:
        return frozenset()
    return frozenset(word for word in (part.strip().lower() for part in value.split(",")) if word)
