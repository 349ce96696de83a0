"""What an engine tells of what is no more."""

from __future__ import annotations

import pytest

from nullworker.engine.api.status import over
from nullworker.engine.decisions import Decision


@pytest.mark.parametrize("reason", ["it lacks NULL_CONSUMER", "it lacks NULL_CONSUMER."])
def test_the_last_word_on_a_worker_ends_with_one_full_stop(reason: str) -> None:
    """Whether its reason is a whole sentence, as a worker's own error is, or not."""
    last = Decision(0.0, 5, "worker_failed", 1, 3, 0, "failed_reported", reason)
    assert over("worker", 3, [last]) == (
        "Worker 3 is over: worker_failed at 1970-01-01 00:00:00 UTC, it lacks NULL_CONSUMER."
    )
