from __future__ import annotations

import io
import json
import logging
import os
import pty
import string
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nullworker.engine import logs
from nullworker.engine.logs import JsonFormatter, LineFormatter, close, configure
from nullworker.wire.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("nullworker.test")


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Path]:
    """The log of an engine whose state is in the returned directory."""
    before = logging.getLogger().level
    configure(tmp_path, "debug", io.StringIO())
    yield tmp_path
    close()
    logging.getLogger().setLevel(before)


def written(state_dir: Path) -> list[dict[str, Any]]:
    close()
    return [json.loads(line) for line in (state_dir / "engine.log").read_text().splitlines()]


def test_a_line_has_its_sentence_its_action_and_what_it_is_about(configured: Path) -> None:
    log.info("worker %d is ready", 7, extra={"action": "worker_ready", "worker_id": 7})
    (line,) = [line for line in written(configured) if line["logger"] == "nullworker.test"]
    at = line.pop("at")
    assert line == {
        "level": "info",
        "logger": "nullworker.test",
        "message": "worker 7 is ready",
        "action": "worker_ready",
        "worker_id": 7,
    }
    assert at.endswith("Z")
    assert (configured / "engine.log").stat().st_mode & 0o777 == 0o600


def test_a_fault_is_logged_with_its_traceback(configured: Path) -> None:
    try:
        log.info("%d", 1 // 0)
    except ZeroDivisionError:
        log.exception("a fault of ours")
    line = written(configured)[-1]
    assert line["message"] == "a fault of ours"
    assert line["error"].endswith("ZeroDivisionError: integer division or modulo by zero")


def test_any_value_becomes_json(configured: Path) -> None:
    log.info(
        "odd", extra={"a": float("nan"), "b": object, "c": {1: {float("inf")}}, "d": b"x", "e": {"f": -float("inf")}}
    )
    line = written(configured)[-1]
    assert (line["a"], line["c"], line["e"]) == ("nan", {"1": ["inf"]}, {"f": "-inf"})


def test_a_log_message_with_wrong_arguments_raises_nothing(
    configured: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("one %s two %s", "x")  # noqa: PLE1206 - the fault that is looked at
    log.info("after")
    assert [line["message"] for line in written(configured)] == ["after"]


def record(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("nullworker.test", level, __file__, 1, message, None, None)
    vars(made).update(extra)
    return made


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        ({"worker_id": 7, "request_idx": 0, "endpoint": "gpu"}, "worker 7 of gpu: worker ready: it is so"),
        ({"worker_id": 0, "request_idx": 9, "endpoint": "gpu"}, "request 9 of gpu: worker ready: it is so"),
        ({"worker_id": 0, "request_idx": 0, "endpoint": "gpu"}, "gpu: worker ready: it is so"),
        ({"worker_id": 0, "request_idx": 0, "endpoint": ""}, "it is so"),
    ],
)
def test_a_decision_names_its_worker_its_endpoint_and_what_was_decided(about: dict[str, Any], shown: str) -> None:
    line = LineFormatter().format(record("it is so", action="worker_ready", cause="ready", **about))
    assert line[9:] == shown


def test_people_get_a_line_without_machine_words() -> None:
    line = LineFormatter().format(record("worker 7 is ready", action="worker_ready"))
    assert line[8:] == " worker 7 is ready"
    assert line[2] == line[5] == ":"
    assert LineFormatter().format(record("odd", logging.WARNING))[8:] == " warning: odd"


@given(st.text())
def test_no_text_forges_a_line_or_steers_the_terminal(text: str) -> None:
    """A worker's error message may hold anything; a line stays a line."""
    line = LineFormatter().format(record("worker said: " + text.replace("%", "")))
    assert not [character for character in line if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0]
    assert len(JsonFormatter().format(record(text.replace("%", ""))).splitlines()) == 1


def test_a_traceback_is_indented_below_its_line() -> None:
    made = record("a fault")
    made.exc_text = "Traceback\nValueError: \x1b[31mred"
    assert LineFormatter().format(made).splitlines()[1:] == ["    Traceback", "    ValueError: \\x1b[31mred"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(
    secret=st.text(string.ascii_letters + string.digits + "-_.~", min_size=12, max_size=70).map(lambda s: "k" + s),
    name=st.sampled_from(["api_key", "mtoken", "signature", "Authorization", "grant"]),
)
def test_no_secret_occurs_in_any_output(tmp_path: Path, secret: str, name: str) -> None:
    """By type, by name, in text, in a URL, in a traceback: neither file nor terminal has it."""
    stream = io.StringIO()
    configure(tmp_path, "debug", stream)
    log.info("a key: %s", Secret(secret))
    log.info("a body: %s", {"id": 1, name: secret})
    log.info("a body: %s", json.dumps({name: secret}).encode())
    log.info("GET http://h:1/route/?client_id=me&%s=%s", name, secret)
    log.info("a field", extra={name: secret, "body": {name: [secret]}, "key": Secret(secret)})
    try:
        raise RuntimeError(f"refused {{'{name}': '{secret}'}}")  # noqa: TRY301 - the traceback is what is looked at
    except RuntimeError:
        log.exception("a fault")
    close()
    file = tmp_path / "engine.log"
    shown = file.read_text() + stream.getvalue()
    file.unlink()
    assert "a fault" in shown
    assert secret not in shown
    shown_to_people = LineFormatter().format(record(f"{name}={secret}"))
    assert secret not in shown_to_people


def test_files_rotate_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 2_000)
    monkeypatch.setattr(logs, "FILES_KEPT", 2)
    configure(tmp_path, "info", io.StringIO())
    for number in range(100):
        log.info("line %d", number)
    close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["engine.log", "engine.log.1", "engine.log.2"]
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o600 for name in files)
    assert "line 99" in (tmp_path / "engine.log").read_text()


def test_a_state_directory_that_cannot_be_used_costs_no_terminal_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stream = io.StringIO()
    configure(tmp_path / "file", "info", stream)
    log.info("still here")
    close()
    assert "still here" in stream.getvalue()


def test_a_log_file_that_is_a_link_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "engine.log").symlink_to(tmp_path / "elsewhere")
    stream = io.StringIO()
    configure(tmp_path, "info", stream)
    log.info("one")
    log.info("two")
    close()
    assert not (tmp_path / "elsewhere").exists()
    assert stream.getvalue().count("\n") == 2
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_configuring_again_replaces_what_was_there(tmp_path: Path) -> None:
    first, second = io.StringIO(), io.StringIO()
    configure(tmp_path, "info", first)
    configure(tmp_path, "warning", second)
    log.info("too small to say")
    log.warning("once")
    close()
    close()
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1


class _Stuck(io.StringIO):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.is_stuck, self.let_go = threading.Event(), threading.Event()

    def write(self, text: str, /) -> int:
        self.is_stuck.set()
        self.let_go.wait(60)
        return super().write(text)


def test_a_terminal_that_does_not_keep_up_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines beyond the bound are dropped, and their number is told."""
    monkeypatch.setattr(logs, "LINES_WAITING_MAX", 10)
    stream = _Stuck()
    configure(tmp_path, "info", stream)
    for number in range(100):
        log.info("line %d", number)
    stream.let_go.set()
    while "lines of the log were dropped" not in stream.getvalue():
        log.info("and on")
    close()


def test_a_log_that_is_full_is_closed_once_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LINES_WAITING_MAX", 10)
    stream = _Stuck()
    configure(tmp_path, "info", stream)
    log.info("taken by the writer")
    assert stream.is_stuck.wait(60)
    for number in range(20):
        log.info("line %d", number)
    threading.Timer(0.05, stream.let_go.set).start()
    close()
    assert stream.getvalue().count("line ") == 10


ON_A_TERMINAL = """
import logging, pathlib, sys
from nullworker.engine.logs import configure
configure(pathlib.Path(sys.argv[1]))
logging.getLogger("x").info("worker 7 is ready", extra={"action": "worker_ready"})
"""


def test_a_real_terminal_gets_lines_and_a_pipe_gets_json(tmp_path: Path) -> None:
    """And what is left is written when the process ends, though the log was not closed."""
    command = [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path)]
    ours, theirs = pty.openpty()
    subprocess.run(command, check=True, stderr=theirs, timeout=60)
    os.close(theirs)
    assert os.read(ours, 1_000).decode().rstrip().endswith(" worker 7 is ready")
    os.close(ours)
    piped = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert json.loads(piped.stderr)["action"] == "worker_ready"
    assert len((tmp_path / "engine.log").read_text().splitlines()) == 2
