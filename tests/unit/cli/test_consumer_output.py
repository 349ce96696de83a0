"""``nullworker logs``: what consumers printed, by worker, request, payload and job."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from nullworker.cli import consumer_output
from nullworker.cli.errors import UserError
from nullworker.cli.logs import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOG = """\
2026-11-27 18:10:10,348 INFO ready at http://127.0.0.1:45567
2026-11-27 18:10:10,541 INFO consumer started under process 32337 for request 17 with payload {"job": 1}
doing job 1
2026-11-27 18:10:11,977 INFO consumer of request 17 ended with exit code 0
2026-11-27 18:10:12,541 INFO consumer started under process 32338 for request 18
doing job 2
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """With a worker that exists, whose log was cut, and one that was destroyed."""
    instance = tmp_path / "fleets/processes/mark/1"
    instance.mkdir(parents=True)
    (instance / "worker.log.1").write_text("[nullworker] 5000 bytes or more were cut here\n")
    (instance / "worker.log").write_text(LOG)
    (tmp_path / "logs/gpu").mkdir(parents=True)
    other = LOG.replace("request 17", "request 27").replace("request 18", "request 28").replace("job", "task")
    (tmp_path / "logs/gpu/worker-2.log").write_text(other)
    return tmp_path


def shown(state: Path, *words: str) -> list[str]:
    done = CliRunner().invoke(command, [*words, "--state", str(state)], catch_exceptions=False, standalone_mode=False)
    return done.stdout.splitlines()


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_of_a_worker_all_is_shown_that_its_consumers_printed_and_what_was_cut_is_marked(state: Path) -> None:
    lines = shown(state, "worker", "1")
    assert lines[0] == "[nullworker] 5000 bytes or more were cut here"
    assert [line for line in lines if line.startswith("doing")] == ["doing job 1", "doing job 2"]
    assert not [line for line in lines if "ready at" in line]


def test_of_a_worker_on_another_machine_the_engine_has_the_end(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    def ask_view(*_: object, **query: str) -> SimpleNamespace:
        asked.append(query)
        if query["id"] == "8":
            raise UserError("Nothing is known of worker 8.")
        return SimpleNamespace(log=tuple(LOG.splitlines()))

    monkeypatch.setattr("nullworker.cli.asking.ask_view", ask_view)
    monkeypatch.setattr("nullworker.client.instances.state_directory", lambda: state)
    done = CliRunner().invoke(command, ["worker", "7"], catch_exceptions=False, standalone_mode=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("doing")] == ["doing job 1", "doing job 2"]
    assert not [line for line in done.stdout.splitlines() if "ready at" in line]
    assert asked == [{"id": "7"}]
    with pytest.raises(UserError, match="There is no log of worker 8"):
        CliRunner().invoke(command, ["worker", "8"], catch_exceptions=False, standalone_mode=False)
    with pytest.raises(UserError, match="There is no log of worker 7"):
        shown(state, "worker", "7")
    assert len(asked) == 2, "a state directory that is named is all that is looked into"


def test_of_a_destroyed_worker_as_well(state: Path) -> None:
    assert "doing task 1" in shown(state, "worker", "2")


def test_by_request(state: Path) -> None:
    assert [line.split(" INFO ")[-1].split(" under")[0] for line in shown(state, "request", "17")] == [
        "consumer started",
        "doing job 1",
        "consumer of request 17 ended with exit code 0",
    ]


def test_by_payload(state: Path) -> None:
    assert "doing job 1" in shown(state, "payload", '"job": 1')
    assert "doing job 2" not in shown(state, "payload", '"job": 1')


def test_by_job_what_a_consumer_printed_counts_as_well_as_its_payload(state: Path) -> None:
    assert shown(state, "job", "doing job 2")[-1] == "doing job 2", "a run without payload, which goes on"
    assert "doing job 1" in shown(state, "job", '"job": 1')
    assert "doing job 2" not in shown(state, "job", "doing job 1")
    with pytest.raises(UserError, match="ran for the job 32337"):
        shown(state, "job", "32337")  # a process id, in the worker's own line


@pytest.mark.parametrize(
    "words", [("worker", "9"), ("request", "9"), ("payload", "nothing of it"), ("job", "nothing of it")]
)
def test_what_is_not_there_is_said_in_a_sentence(state: Path, words: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"under {state}"):
        shown(state, *words)


def test_following_ends_with_the_worker_and_shows_each_line_once(state: Path) -> None:
    log = state / "fleets/processes/mark/1/worker.log"
    steps: Iterator[Callable[[], object]] = iter(
        [
            lambda: append(log, "half a"),
            lambda: append(log, " line\nand one\n"),
            lambda: log.write_text("after the cut\n"),
            log.unlink,
        ]
    )
    lines = list(consumer_output.follow(state, 1, lambda _: next(steps)()))
    assert lines[0] == "[nullworker] 5000 bytes or more were cut here"
    assert lines[-4:] == ["half a line", "and one", "[nullworker] the log was cut here", "after the cut"]
    assert lines.count("doing job 1") == 1
