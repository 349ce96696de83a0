"""The metrics of a world: their names, labels and values; and that pages, rules and dashboard name no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nullworker.core.causes import Cause
from nullworker.engine.metrics.measurements import PHASES
from nullworker.views.costs import KINDS
from nullworker.views.gauges import REASONS, STATES
from tests.kit.metric_world import MetricWorld, busy_world

ROOT = Path(__file__).resolve().parents[3]
RULES = (ROOT / "deploy/prometheus/nullworker.rules.yml").read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana/nullworker.json").read_text())
PAGE = (ROOT / "docs/metrics.md").read_text()
#: Labels that Prometheus adds.
ADDED = {"instance", "job"}


def samples(world: MetricWorld) -> dict[tuple[str, ...], float]:
    """By name and the values of its labels, sorted by the labels' names."""
    text = generate_latest(world.registry()).decode()
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def labels_by_name() -> dict[str, set[str]]:
    """The labels of each metric, under each name that it has in queries."""
    found: dict[str, set[str]] = {}
    for family in busy_world().registry().collect():
        labels = set(getattr(family, "_labelnames", ())) or {key for sample in family.samples for key in sample.labels}
        if family.type == "histogram":
            found |= {family.name + "_bucket": labels | {"le"}}
            found |= dict.fromkeys((family.name + "_count", family.name + "_sum"), labels - {"le"})
        elif family.type == "counter":
            found[family.name + "_total"] = labels
        else:
            found[family.name + ("_info" if family.type == "info" else "")] = labels
    return found


METRICS = labels_by_name()
#: As the page lists them: a histogram once.
LISTED = {re.sub(r"_(bucket|count|sum)$", "", name) for name in METRICS if name.startswith("nullworker_")}


def dashboard_queries() -> list[str]:
    panels = [query["expr"] for panel in DASHBOARD["panels"] for query in panel.get("targets", [])]
    variables: list[Any] = [each["query"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    return [*panels, *(each["query"] for each in variables)]


def test_a_world_is_measured() -> None:
    found = samples(busy_world())
    assert found["nullworker_workers", "null", "held"] == 3
    assert found["nullworker_waiting", "null", "at_cap"] == 0
    assert found["nullworker_reservation_wait_seconds_count", "null"] == 4
    assert found["nullworker_worker_start_seconds_count", "null", "ready"] == 3
    assert (
        found["nullworker_handover_seconds_count", "null"] + found["nullworker_reservation_held_seconds_count", "null"]
        >= 1
    )
    assert found["nullworker_worker_seconds_total", "null", "held"] > 0
    assert found["nullworker_decisions_total", "grant", Cause.FIRST_IN_LINE.value] >= 1
    assert found["nullworker_refused_calls_total", "auth_error"] == 1
    assert found["nullworker_fleet_calls_total", "small", "create", "ok"] == 1
    assert found["nullworker_queue_depth", "null", "redis://h/0?queue=a"] == 5
    assert found["nullworker_cost_dollars_total", "null", "held"] == 1.5
    assert found["nullworker_cost_dollars_total", "(deleted)", "idle"] == 2.0
    assert found["nullworker_build_info", found_python(), "1.2.3"] == 1


def found_python() -> str:
    import platform

    return platform.python_version()


def test_what_workers_of_an_endpoint_used_stays_counted_when_it_is_gone() -> None:
    world = MetricWorld()
    world.usage = type(world.usage)(None, {(77, "held"): 5.0})
    assert samples(world)["nullworker_worker_seconds_total", "(deleted)", "held"] == 5.0


def test_no_label_is_the_number_of_a_worker_or_a_request() -> None:
    labels = set().union(*(METRICS[name] for name in METRICS if name.startswith("nullworker_")))
    assert labels == {
        *("endpoint", "state", "reason", "phase", "fleet", "op", "result", "kind", "error", "queue"),
        *("le", "version", "python"),
    }


@pytest.mark.parametrize("name", sorted(LISTED))
def test_every_metric_is_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_page_lists_no_other() -> None:
    listed = set(re.findall(r"^\| `(nullworker_\w+)`", PAGE, re.MULTILINE))
    assert listed == LISTED


@pytest.mark.parametrize("values", [REASONS, PHASES, STATES, KINDS], ids=["reasons", "phases", "states", "kinds"])
def test_the_page_lists_all_values_of_a_closed_list(values: tuple[str, ...]) -> None:
    for value in values:
        assert f"`{value}`" in PAGE


@pytest.mark.parametrize("query", [RULES, *dashboard_queries()])
def test_a_query_names_metrics_labels_and_values_that_there_are(query: str) -> None:
    named = set(re.findall(r"\bnullworker_\w+", query))
    assert named or "process_" in query
    assert named <= set(METRICS)
    for metric, matchers in re.findall(r"\b(\w+)\{([^}]*)\}", query):
        if metric not in METRICS:
            assert metric == "up"
            continue
        for label, value in re.findall(r'(\w+)!?=~?"([^"]*)"', matchers):
            assert label in METRICS[metric] | ADDED, f"{metric} has no label {label}"
            known = {"state": STATES, "reason": (*REASONS, *(cause.value for cause in Cause))}.get(label)
            assert known is None or set(value.split("|")) <= set(known), value


def test_the_dashboard_is_whole() -> None:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert all(panel["description"] and panel["title"] for panel in panels)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(places) == len(set(places))
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in DASHBOARD["panels"])
