import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from nullworker.worker import settings
from nullworker.worker.failures import StartError
from nullworker.worker.framework import Framework, check_inside

ENV = {
    "CONTAINER_ID": "7",
    "REPORT_ADDR": "http://127.0.0.1:1",
    "MASTER_TOKEN": "token",
    "WORKER_PORT": "3000",
    "VAST_TCP_PORT_3000": "3000",
    "PUBLIC_IPADDR": "127.0.0.1",
    "LOG_LEVEL": "WARNING",
}
AUTH_DATA = {"cost": 100, "reqnum": 5, "request_idx": 6}


@pytest.fixture
def framework(monkeypatch: pytest.MonkeyPatch) -> Iterator[Framework]:
    levels = {name: logging.getLogger(name).level for name in (None, "aiohttp.access", "asyncio")}
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("UNSECURED", "")  # which the framework's own reader would not take
    yield Framework(settings.read(ENV))
    for logger, level in levels.items():
        logging.getLogger(logger).setLevel(level)


def test_the_log_level_is_ours_again(framework: Framework) -> None:
    assert logging.getLogger().level == logging.WARNING
    assert framework.unsecured is False


def test_the_frameworks_sessions_are_observed_and_their_ids_not_to_be_guessed(framework: Framework) -> None:
    assert framework.backend.sessions is framework.sessions
    assert framework.backend.max_sessions == 1
    ids = {framework.backend.generate_session_id() for _ in range(100)}
    assert len(ids) == 100
    assert min(len(each) for each in ids) >= 22


def test_a_refusal_is_counted_as_the_framework_counts_one(framework: Framework) -> None:
    told: list[None] = []
    framework.on_news.append(lambda: told.append(None))
    framework.count_refusal(AUTH_DATA)
    model = framework.metrics.model_metrics
    assert (model.workload_rejected, model.requests_recieved, len(told)) == (100, {5}, 1)
    [request] = model.requests_deleting
    assert (request.request_idx, request.status, request.success) == (6, "Rejected", False)
    assert framework.metrics.update_pending


def test_an_error_that_the_framework_finds_itself_is_told_at_once(framework: Framework) -> None:
    told: list[None] = []
    framework.on_news.append(lambda: told.append(None))
    framework.backend.backend_errored("Healthcheck failed with status: 500")  # as its health check does
    assert framework.metrics.model_metrics.error_msg == "Healthcheck failed with status: 500"
    assert framework.metrics.update_pending
    assert len(told) == 1


@pytest.mark.parametrize("path", ["backend.session_create_handler", "backend.metrics.update_pending", "routes"])
def test_a_framework_without_what_is_replaced_in_it_is_not_started(path: str) -> None:
    """Put in its place, it would be without effect, and the worker would hold several reservations."""

    class Node:
        def __init__(self, prefix: str) -> None:
            self._prefix = prefix

        def __getattr__(self, name: str) -> "Node":
            if self._prefix + name == path:
                raise AttributeError(name)
            return Node(f"{self._prefix}{name}.")

    with pytest.raises(StartError, match=rf"vastai \S+ lacks {path} inside"):
        check_inside(Node(""))


def test_no_start_waits_for_a_parser_of_c() -> None:
    """pycryptodome has cffi parse the declarations of its libraries, where cffi can be imported."""
    code = (
        "from nullworker.worker import main; main._load_framework(); import sys; sys.exit('pycparser' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-Wignore", "-c", code], check=False).returncode == 0
