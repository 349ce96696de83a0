"""Durations and times in words, the same on the page's server side and in the terminal."""

from __future__ import annotations

import datetime as dt


def duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``: as exact as is of use."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def counted(count: int, what: str) -> str:
    """``1 worker``, ``2 workers``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def clock(at_s: float) -> str:
    """A time of this day in UTC, to the second, or with its date where that is another day's to read."""
    return f"{dt.datetime.fromtimestamp(at_s, dt.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
