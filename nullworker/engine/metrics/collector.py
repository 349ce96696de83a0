"""Makes the families of one scrape: gauges from the core as it is, counters and histograms from the measurements."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from nullworker.engine.metrics.queues import queue_families
from nullworker.views.costs import UNITS
from nullworker.views.gauges import endpoint_gauges
from nullworker.views.types import QueueRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from nullworker.engine.metrics.histogram import Histogram
    from nullworker.engine.metrics.sources import MetricSources
    from nullworker.views.gauges import EndpointGauges

#: In place of an endpoint's name: it is no more, and what its workers used stays counted.
DELETED = "(deleted)"

_BY_ENDPOINT_AND_MORE: tuple[tuple[str, str, str, Callable[[EndpointGauges], dict[str, int]]], ...] = (
    ("workers", "Workers by state.", "state", lambda e: e.workers),
    ("waiting", "Requests that wait, by why the first of them has no worker.", "reason", lambda e: e.waiting),
)
_BY_ENDPOINT: tuple[tuple[str, str, Callable[[EndpointGauges], float]], ...] = (
    ("unresponsive_workers", "Free and held workers that send no reports.", lambda e: e.unresponsive),
    ("wanted_workers", "Active workers that parameters and demand want.", lambda e: e.wanted),
    ("requested_workers", "Active workers, and those on their way.", lambda e: e.requested),
    ("max_workers", "The parameter max_workers.", lambda e: e.max_workers),
    ("waiting_oldest_seconds", "How long the first that waits has waited.", lambda e: e.oldest_s),
    (
        "failing_workergroups",
        "Workergroups that create nothing for now after failures.",
        lambda e: e.failing_workergroups,
    ),
)


class EngineCollector(Collector):
    """The engine's families."""

    def __init__(self, sources: MetricSources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All families, as they are now."""
        sources = self._sources
        yield InfoMetricFamily(
            "nullworker_build",
            "The version of the engine.",
            {"version": sources.version, "python": platform.python_version()},
        )
        yield _gauge("held_calls", "Calls of /route/ that are held open.", sources.held_calls())
        yield _gauge("connections", "Open connections.", sources.connections())
        yield _gauge("complaints", "What is wrong with the engine itself; status says what.", len(sources.complaints()))
        yield from self._of_endpoints()
        yield from self._of_usage()
        yield from self._of_costs()
        yield from self._of_decisions()
        yield from self._of_fleets()
        rows = sources.dispatchers.rows(sources.now())
        names = {row["dispatcher"] for row in rows}
        yield _gauge("dispatchers", "Dispatchers that told of their queues in the last ten minutes.", len(names))
        yield from queue_families(msgspec.convert(rows, list[QueueRow]))

    def _of_endpoints(self) -> Iterator[Metric]:
        endpoints = endpoint_gauges(self._sources.engine, self._sources.now())
        for name, text, label, values_of in _BY_ENDPOINT_AND_MORE:
            family = GaugeMetricFamily(f"nullworker_{name}", text, labels=("endpoint", label))
            for endpoint in endpoints:
                for key, count in values_of(endpoint).items():
                    family.add_metric((endpoint.name, key), float(count))
            yield family
        for name, text, value_of in _BY_ENDPOINT:
            family = GaugeMetricFamily(f"nullworker_{name}", text, labels=("endpoint",))
            for endpoint in endpoints:
                family.add_metric((endpoint.name,), float(value_of(endpoint)))
            yield family
        yield from self._durations({endpoint.endpoint_id: endpoint.name for endpoint in endpoints})

    def _durations(self, names: Mapping[int, str]) -> Iterator[Metric]:
        measured = self._sources.measurements
        measured.forget_endpoints(names)
        for name, text, kept in (
            ("reservation_wait_seconds", "From the first call of a request to its first grant.", measured.waits),
            ("reservation_held_seconds", "How long reservations held their workers.", measured.holds),
            ("handover_seconds", "From the end of a hold to the next session on its worker.", measured.handovers),
        ):
            yield _histogram(name, text, ("endpoint",), (((names[key],), each) for key, each in kept.items()))
        starts = (((names[key], phase), each) for (key, phase), each in measured.starts.items())
        text = "From the order of a worker to each phase of its start."
        yield _histogram("worker_start_seconds", text, ("endpoint", "phase"), starts)

    def _of_usage(self) -> Iterator[Metric]:
        sources = self._sources
        state = sources.engine.state
        groups = {group_id: group.spec.endpoint_id for group_id, group in state.workergroups.items()}
        names = {group_id: state.endpoints[endpoint_id].name for group_id, endpoint_id in groups.items()}
        seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        for group_id, states in sources.usage.by_group(sources.now()).items():
            for worker_state, spent_s in states.items():
                seconds[names.get(group_id, DELETED), worker_state] += spent_s
        family = CounterMetricFamily(
            "nullworker_worker_seconds", "How long workers were in each state.", labels=("endpoint", "state")
        )
        for key, spent_s in seconds.items():
            family.add_metric(key, spent_s)
        yield family

    def _of_costs(self) -> Iterator[Metric]:
        sources = self._sources
        names = {endpoint_id: endpoint.name for endpoint_id, endpoint in sources.engine.state.endpoints.items()}
        units: Counter[tuple[str, str]] = Counter()
        for (endpoint_id, kind), amount in sources.spent.items():
            units[names.get(endpoint_id, DELETED), kind] += amount
        costs = CounterMetricFamily("nullworker_cost_dollars", "What workers cost.", labels=("endpoint", "kind"))
        for key, amount in units.items():
            costs.add_metric(key, amount / UNITS)
        yield costs

    def _of_decisions(self) -> Iterator[Metric]:
        sources = self._sources
        family = CounterMetricFamily("nullworker_decisions", "Decisions, and why.", labels=("kind", "reason"))
        for key, count in sources.decisions.counts.items():
            family.add_metric(key, float(count))
        yield family
        refused = CounterMetricFamily("nullworker_refused_calls", "Calls that were refused.", labels=("error",))
        for error, count in sources.refused.items():
            refused.add_metric((error,), float(count))
        yield refused
        limited = CounterMetricFamily("nullworker_limited", "What limits of callers count.", labels=("kind",))
        for kind, count in sources.limited().items():
            limited.add_metric((kind,), float(count))
        yield limited
        text = "What the core takes for one event."
        yield _histogram("decision_seconds", text, (), [((), sources.measurements.decisions)])

    def _of_fleets(self) -> Iterator[Metric]:
        measured = self._sources.measurements
        results = CounterMetricFamily(
            "nullworker_fleet_calls", "Calls of fleets that have ended.", labels=("fleet", "op", "result")
        )
        for (call, result), count in measured.call_results.items():
            results.add_metric((*call, result), float(count))
        yield results
        text = "How long fleets took to answer."
        yield _histogram("fleet_call_seconds", text, ("fleet", "op"), measured.calls.items())


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"nullworker_{name}", text, value=float(value))


def _histogram(
    name: str, text: str, labels: Sequence[str], kept: Iterable[tuple[Sequence[str], Histogram]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"nullworker_{name}", text, labels=labels)
    for values, each in kept:
        family.add_metric(values, each.buckets(), each.sum_s)
    return family


def registry_of(sources: MetricSources) -> CollectorRegistry:
    """What is scraped of an engine: its own families, and those of its process."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(sources))
    ProcessCollector(registry=registry)
    return registry
