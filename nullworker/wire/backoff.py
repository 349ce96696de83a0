"""The pause before another attempt, which doubles with each failure in a row."""

from __future__ import annotations

_DOUBLINGS_MAX = 60  # beyond any maximum, and small enough that the power stays a finite number


def backoff_s(failures: int, *, first_s: float, max_s: float) -> float:
    """Seconds to wait.

    Args:
        failures: how many attempts have failed in a row; 0 waits for none.
        first_s: the pause after the first failure.
        max_s: the longest pause.
    """
    return 0.0 if failures <= 0 else min(max_s, first_s * 2.0 ** min(failures - 1, _DOUBLINGS_MAX))
