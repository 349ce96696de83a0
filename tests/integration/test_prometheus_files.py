"""The rules, the dashboard's queries and what an engine shows, as Prometheus's own tool reads them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from tests.integration.queues.brokers import program
from tests.kit.metric_world import busy_world

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"


@pytest.fixture(scope="module")
def promtool() -> str:
    return program("promtool")


def check(*command: str, given: bytes = b"", cwd: Path = PROMETHEUS) -> str:
    """What it says; it ends with 0."""
    done = subprocess.run(command, input=given, capture_output=True, cwd=cwd, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def test_the_rules_and_the_configuration_are_well_formed(promtool: str) -> None:
    assert "SUCCESS" in check(promtool, "check", "rules", "nullworker.rules.yml")
    check(promtool, "check", "config", "--syntax-only", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_is_silent_when_all_is_well(promtool: str) -> None:
    check(promtool, "test", "rules", "nullworker.test.yml")


def test_each_alert_is_tested() -> None:
    names = [
        line.split()[-1]
        for line in (PROMETHEUS / "nullworker.rules.yml").read_text().splitlines()
        if "- alert:" in line
    ]
    tests = (PROMETHEUS / "nullworker.test.yml").read_text()
    for name in names:
        assert f"{{eval_time: 50m, alertname: {name}}}" in tests, f"{name} is not shown to be silent"
        assert f"        alertname: {name}\n        exp_alerts:" in tests, f"{name} is not shown to fire"


def test_the_queries_of_the_dashboard_are_well_formed(promtool: str, tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana/nullworker.json").read_text())
    queries = [query["expr"] for panel in dashboard["panels"] for query in panel.get("targets", [])]
    rules = [
        {"record": f"dashboard:query{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in check(promtool, "check", "rules", "queries.yml", cwd=tmp_path)


def test_names_and_types_of_the_metrics_are_as_prometheus_wants_them(promtool: str) -> None:
    check(promtool, "check", "metrics", given=generate_latest(busy_world().registry()))
