"""`nullworker status --watch`: it outlasts an engine that is started again, and ends at Ctrl-C."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.cli import main as cli
from nullworker.cli import status
from nullworker.cli.errors import UserError
from nullworker.cli.printing import console_of_lines
from nullworker.views.types import EndpointOverview, Eta, GroupView

if TYPE_CHECKING:
    import pytest

ANSWER = {"success": True, "endpoints": [], "queues": [], "complaints": []}


def watch(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, Any] | Exception | type[BaseException]) -> int:
    """Exit code of ``status --watch --json`` where the engine answers so."""
    coming = iter(answers)

    def ask(*_: object) -> dict[str, Any]:
        answer = next(coming)
        if not isinstance(answer, dict):
            raise answer
        return answer

    monkeypatch.setattr(status, "ask", ask)
    monkeypatch.setattr("time.sleep", lambda _: None)
    return cli.run(cli.build(), ["status", "--watch", "--json"])


def test_an_engine_that_does_not_answer_for_a_while_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    down = UserError("The engine at http://e does not answer.")
    assert watch(monkeypatch, ANSWER, down, {**ANSWER, "held_calls": 1}, KeyboardInterrupt) == 130
    out, err = capsys.readouterr()
    assert [json.loads(line) for line in out.splitlines()] == [ANSWER, {**ANSWER, "held_calls": 1}]
    assert err.strip() == "The engine at http://e does not answer. It is asked again every 2 s."


def test_one_that_does_not_answer_at_the_beginning_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(monkeypatch, UserError("The engine at http://e does not answer.")) == 1
    assert capsys.readouterr().err == "error: The engine at http://e does not answer.\n"


def test_a_workergroup_that_its_fleet_has_no_place_for_is_shown_though_none_waits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = GroupView(2, "ssh", 1, 0, 3, "the fleet ssh has had no place since noon", 4.0)
    group = GroupView(3, "processes", 0, 0, 0, "", 0.0)
    shown = EndpointOverview(
        1, "e", "active", "1 of 3", "", "", 1, 0, 0, 0, {}, 3, 200.0, 0, 0.0, Eta(None, ""), {}, (short, group)
    )
    row = {
        "wanted": {"active_perf": 200.0, "places": 0},
        "requested": {"workers": 1, "perf": 100.0},
        "observed": {"ready": 1, "held": 0},
        "waiting": 0,
        "why": "",
        "workers_list": [],
    }
    status._show_endpoint(console_of_lines(), shown, row)
    out = capsys.readouterr().out
    assert "  workergroup 2 on ssh is tried again in 4 s: the fleet ssh has had no place since noon\n" in out
    assert "workergroup 3" not in out
    status._show_endpoint(console_of_lines(), msgspec.structs.replace(shown, waiting=1), {**row, "why": "of it"})
    assert "workergroup 2" not in capsys.readouterr().out, "it is why one waits"
