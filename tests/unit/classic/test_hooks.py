from __future__ import annotations

import logging
from typing import Any

import pytest

from nullworker.classic.hooks import LogWatch, Metrics
from nullworker.classic.readiness import MODEL, Readiness


class Diary:
    """A Metrics of the user's that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def start_req(self, request: Any) -> None:
        self.told.append(("start", dict(request)))

    def finish_req(self, request: Any) -> None:
        self.told.append(("finish", dict(request)))

    def error_req(self, request: Any) -> None:
        self.told.append(("error", dict(request)))

    def report_loaded(self, facts: Any) -> None:
        self.told.append(("loaded", facts))

    def report_loading(self, facts: Any) -> None:
        self.told.append(("loading", facts))

    def report_error(self, facts: Any) -> None:
        self.told.append(("fault", facts))

    def report_batch_capacity(self, facts: Any) -> None:
        self.told.append(("capacity", facts))

    def report_req_stats(self, facts: Any) -> None:
        self.told.append(("stats", facts))

    def fill_data(self, data: dict[str, Any]) -> None:
        data.update(max_perf=250, cur_perf=3.5, cur_capacity="much", max_capacity=-1, cur_load=9, mtoken="stolen")


def test_metrics_hear_of_each_request_once_and_how_long_it_took() -> None:
    diary = Diary()
    request = Metrics(diary, is_driven=True).begin({"prompt": "x"})
    request.end(ok=True)
    request.end(ok=False)
    assert [kind for kind, _ in diary.told] == ["start", "finish"]
    assert diary.told[0][1] == {"prompt": "x"}
    assert diary.told[1][1]["time_elapsed"] >= 0


def test_metrics_hear_of_a_request_that_failed_and_of_one_without_json() -> None:
    diary = Diary()
    Metrics(diary, is_driven=True).begin([1, 2]).end(ok=False)
    assert [kind for kind, _ in diary.told] == ["start", "error"]
    assert diary.told[0][1] == {}


def test_a_backend_that_drives_its_own_metrics_is_not_helped() -> None:
    diary = Diary()
    metrics = Metrics(diary, is_driven=False)
    metrics.begin({}).end(ok=True)
    assert diary.told == []
    assert metrics.figures()["max_perf"] == 250


def test_the_engine_gets_the_figures_that_are_figures() -> None:
    assert Metrics(Diary(), is_driven=True).figures() == {"max_perf": 250.0, "cur_perf": 3.5}


def test_without_metrics_nothing_is_called_and_there_are_no_figures() -> None:
    metrics = Metrics(None, is_driven=True)
    metrics.begin({}).end(ok=True)
    metrics.report({"loaded": True})
    assert metrics.figures() == {}


def test_an_object_without_any_of_the_methods_is_as_good() -> None:
    metrics = Metrics(object(), is_driven=True)
    metrics.begin({}).end(ok=True)
    metrics.report({"loaded": True})
    assert metrics.figures() == {}


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"loaded": True, "max_perf": 3}, "loaded"),
        ({"loading": True}, "loading"),
        ({"error_msg": "oom"}, "fault"),
        ({"max_batch_tokens": 9}, "capacity"),
        ({"tokens_per_second": 3.0}, "stats"),
    ],
)
def test_each_fact_is_passed_to_the_method_that_is_for_it(facts: dict[str, object], kind: str) -> None:
    diary = Diary()
    Metrics(diary, is_driven=True).report(facts)
    assert diary.told == [(kind, facts)]


def test_what_metrics_raise_fails_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy:
        def start_req(self, request: Any) -> None:
            raise KeyError("prompt")

    metrics = Metrics(Clumsy(), is_driven=True)
    with caplog.at_level(logging.ERROR):
        metrics.begin({}).end(ok=True)
        metrics.begin({}).end(ok=True)
    assert [record.getMessage() for record in caplog.records] == [
        "Metrics.start_req raised; its result is ignored, and further errors of it are not logged"
    ]


def loading_worker() -> Readiness:
    return Readiness([MODEL], lambda: 0.0, perf=100)


def test_a_log_watch_says_by_what_it_returns_that_the_model_is_loaded() -> None:
    class Watch:
        def handle_line(self, line: str) -> dict[str, object] | None:
            return {"loaded": True, "max_perf": 42} if "ready" in line else None

    diary, readiness = Diary(), loading_worker()
    watch = LogWatch(Watch(), readiness, Metrics(diary, is_driven=True))
    watch.line("starting\n")
    assert not readiness.is_ready
    watch.line("ready\n")
    assert (readiness.is_ready, readiness.perf) == (True, 42)
    assert [kind for kind, _ in diary.told] == ["loaded"]


def test_a_classic_log_watch_is_asked_first_whether_the_model_begins_to_load() -> None:
    class Classic:
        loading = False

        def __init__(self) -> None:
            self.lines: list[str] = []

        def check_loading(self, line: str) -> bool:
            self.loading = "download" in line
            return self.loading

        def handle_line(self, line: str) -> None:
            self.lines.append(line)

    classic = Classic()
    watch = LogWatch(classic, loading_worker(), Metrics(None, is_driven=True))
    for line in ("hello\n", "starting model download\n", "download goes on\n"):
        watch.line(line)
    assert classic.lines == ["hello\n", "download goes on\n"]


def test_a_line_that_a_log_watch_chokes_on_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    class Watch:
        def handle_line(self, line: str) -> dict[str, object]:
            return {"loaded": int(line) > 0}

    readiness = loading_worker()
    watch = LogWatch(Watch(), readiness, Metrics(None, is_driven=True))
    with caplog.at_level(logging.CRITICAL):
        watch.line("no number\n")
        watch.line("1\n")
    assert readiness.is_ready
