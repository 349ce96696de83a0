"""What the metrics of an engine are made of. An engine that is not scraped does without Prometheus's library."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nullworker.core.engine import Engine
    from nullworker.engine.decisions import Decisions
    from nullworker.engine.dispatchers import Dispatchers
    from nullworker.engine.metrics.measurements import Measurements
    from nullworker.engine.usage import Usage


class MetricSources(NamedTuple):
    """What metrics are made of."""

    engine: Engine
    measurements: Measurements
    decisions: Decisions
    dispatchers: Dispatchers
    usage: Usage
    refused: Mapping[str, int]  # calls, by the code of the refusal
    limited: Callable[[], Mapping[str, int]]  # what limits count: wrong keys and numbers, connections, waiters
    spent: Mapping[tuple[int, str], int]  # units of cost, by endpoint and kind
    now: Callable[[], float]  # the core's time
    held_calls: Callable[[], int]
    connections: Callable[[], int]
    complaints: Callable[[], Sequence[str]]
    version: str
