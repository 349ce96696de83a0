"""The families of queues, as the dispatchers' own readings show them; a dispatcher can serve them by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import GaugeMetricFamily

from nullworker.views.gauges import queue_gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prometheus_client import Metric

    from nullworker.views.gauges import QueueGauges
    from nullworker.views.types import QueueRow

#: name, help, and its value; a queue without one has no sample.
_GAUGES: tuple[tuple[str, str, Callable[[QueueGauges], Any]], ...] = (
    ("queue_depth", "Jobs that wait in a queue.", lambda queue: queue.waiting),
    ("queue_in_flight", "Jobs that consumers have taken and not finished.", lambda queue: queue.in_flight),
    ("queue_delayed", "Jobs that are due later.", lambda queue: queue.delayed),
    ("queue_abandoned", "Jobs whose consumers are gone.", lambda queue: queue.abandoned),
    ("queue_paused", "1 while the queue is paused.", lambda queue: int(queue.paused)),
    ("queue_warnings", "Likely problems of the queue.", lambda queue: queue.warnings),
    ("queue_trouble", "1 while a dispatcher cannot do its work on the queue.", lambda queue: int(queue.has_trouble)),
    ("queue_reading_age_seconds", "Since when the latest reading is old.", lambda queue: queue.read_s_ago),
    ("queue_told_age_seconds", "Since when no dispatcher has told of the queue.", lambda queue: queue.heard_s_ago),
    ("queue_wanted_reservations", "Reservations that the queue's work wants.", lambda queue: queue.wanted),
    ("queue_held_reservations", "Workers held for the queue.", lambda queue: queue.held),
    ("queue_requested_reservations", "Reservations asked for, and waiting.", lambda queue: queue.requested),
)


def queue_families(rows: Iterable[QueueRow]) -> Iterator[Metric]:
    """All families of queues."""
    queues = queue_gauges(rows)
    for name, text, value_of in _GAUGES:
        family = GaugeMetricFamily(f"nullworker_{name}", text, labels=("queue", "endpoint"))
        for queue in queues:
            value = value_of(queue)
            if value is not None:
                family.add_metric((queue.queue, queue.endpoint), float(value))
        yield family
