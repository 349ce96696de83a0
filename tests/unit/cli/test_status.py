"""`nullworker status --watch`: it outlasts an engine that is started again, and ends at Ctrl-C."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nullworker.cli import main as cli
from nullworker.cli import status
from nullworker.cli.errors import UserError

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
