"""A drained worker's reports say that it has failed, and why; over a restart as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.events import WorkerReported
from nullworker.engine.drains import DRAINS_FILE, Drains

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def report(worker_id: int, error: str = "") -> WorkerReported:
    return WorkerReported(worker_id, "http://w", True, error, 100.0, 0.0, ())


def test_its_reports_get_an_error_and_those_of_others_do_not() -> None:
    drains = Drains()
    assert drains.applied(report(1)) == report(1)
    drains.begin(1, "its fan is loud")
    assert drains.applied(report(1)).error == "drained: its fan is loud"
    assert drains.applied(report(1, "no GPU")).error == "no GPU"
    assert drains.applied(report(2)) == report(2)
    assert drains.reason(1) == "its fan is loud"


def test_it_can_be_cancelled() -> None:
    drains = Drains()
    assert not drains.cancel(1)
    drains.begin(1, "")
    assert drains.reason(1) == "an operator wants it"
    assert drains.cancel(1)
    assert drains.applied(report(1)) == report(1)


def test_the_next_engine_knows_of_it_until_the_worker_is_gone(tmp_path: Path) -> None:
    path = tmp_path / DRAINS_FILE
    Drains(path).begin(1, "x")
    again = Drains(path)
    again.load()
    assert again.reason(1) == "x"
    again.forget_gone({2})
    third = Drains(path)
    third.load()
    assert third.reason(1) == ""
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_read_or_written_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / DRAINS_FILE
    path.write_text("no json")
    drains = Drains(path)
    drains.load()
    assert "cannot be read" in caplog.text
    path.with_suffix(".part").mkdir()
    drains.begin(1, "x")
    assert "cannot be kept" in caplog.text
    assert drains.reason(1) == "x"
