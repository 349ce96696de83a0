"""What ``nullworker up`` says of a queue."""

from __future__ import annotations

from nullworker.cli.up.screen import queue_line, warning_lines
from nullworker.dispatch.binding import BindingStatus
from nullworker.queues.base import QueueWarning


def test_a_queue_is_named_by_its_endpoint_and_warned_of() -> None:
    """Its address is in the first line alone; warnings of its settings are shown as ``nullworker dispatch`` does."""
    early = QueueWarning("early-ack", "Jobs count as done when they begin: set acks_late.")
    status = BindingStatus(
        queue="up redis-list://localhost/0?list=jobs", waiting=3, in_flight=None, want=2, asked=0, held=2,
        trouble="Redis does not answer", reason="3 waiting, at most 2", waits_because="", warnings=(early,),
    )  # fmt: skip
    said = "up: 3 waiting; want 2, 2 held, 0 requested (3 waiting, at most 2) | Redis does not answer"
    assert queue_line(status) == said
    assert warning_lines(status) == ["up: warning (early-ack): Jobs count as done when they begin: set acks_late."]
