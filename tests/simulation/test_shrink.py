"""A failing run is made short, and the line that is printed repeats what is left of it."""

from __future__ import annotations

import importlib
import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.cli import simulate
from nullworker.cli.errors import UserError
from nullworker.simulation.event_queue import AT_ONE_INSTANT_MAX, EventQueue, Stalled
from nullworker.simulation.run import Reduction
from nullworker.simulation.run import run as run_healthy
from nullworker.simulation.shrink import shrink as shrink_healthy
from tests.simulation.mutants import CAUGHT, planted
from tests.simulation.mutations import MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

# Found in a world of many clients and several faults; few of them are enough for it.
BUG = next(mutation for mutation in MUTATIONS if mutation.name == "an exit is ignored")
FOUND = json.loads(CAUGHT.read_text())[BUG.name]
SEED = FOUND["seed"]


def shrink(failed: Any, runs_max: int) -> Any:
    """With the simulator that is loaded now."""
    found: Callable[..., Any] = importlib.import_module("nullworker.simulation.shrink").shrink
    return found(failed, runs_max)


def command(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of ``nullworker simulate ...``."""
    program, name, *arguments = shlex.split(line)
    assert (program, name) == ("nullworker", "simulate")
    code = simulate.command.main(arguments, standalone_mode=False)
    return int(code), capsys.readouterr().out


def test_what_is_left_breaks_the_same_promise_with_less(capsys: pytest.CaptureFixture[str]) -> None:
    with planted(BUG) as run:
        failed = run(SEED)
        shorter = shrink(failed, 100)
        assert shorter.failure.promise == failed.failure.promise == FOUND["promise"]
        assert shorter.clients < failed.clients
        assert len(shorter.faults) < len(failed.faults)
        assert shorter.events < failed.events
        assert len(shorter.failure.repeat) < 300

        code, told = command(f"{shorter.failure.repeat} --no-shrink", capsys)
        assert code == 1
        assert shorter.failure.message in told
        code, told = command(f"nullworker simulate --seed {SEED} --scenario {FOUND['scenario']}", capsys)
        assert code == 1
        assert shorter.failure.repeat in told


@pytest.mark.parametrize("most", [0, 12])
def test_no_more_runs_are_tried_than_allowed(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def counted(*arguments: Any, **options: Any) -> Any:
        tried.append(arguments)
        return run(*arguments, **options)

    with planted(BUG) as run:
        failed = run(SEED)
        monkeypatch.setattr(importlib.import_module("nullworker.simulation.shrink"), "run", counted)
        assert shrink(failed, most).failure is not None
    assert len(tried) == most + 1  # and the one that is shown


def test_a_run_that_broke_nothing_stays_as_it_is() -> None:
    kept = run_healthy(1)
    assert kept.failure is None
    assert shrink_healthy(kept) is kept


def test_the_line_names_clients_by_ranges_and_the_command_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    less = Reduction(clients=frozenset({1, 2, 3, 5, 9, 10}))
    assert less.flags() == " --without-clients 1-3,5,9-10"
    code, told = command(f"nullworker simulate --seed 3{less.flags()}", capsys)
    assert code == 0
    assert f"{run_healthy(3).clients - 6} clients" in told


@pytest.mark.parametrize("wrong", ["--without-clients 1-x", "--without nothing", "--scenario nowhere"])
def test_what_is_not_there_is_one_sentence(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as told:
        command(f"nullworker simulate --seed 1 {wrong}", capsys)
    assert wrong.split()[1] in str(told.value)
    assert "\n" not in str(told.value)


def test_a_world_whose_time_stands_still_is_ended() -> None:
    queue = EventQueue()

    def again() -> None:
        queue.after(0.0, again)

    queue.at(5.0, again)
    with pytest.raises(Stalled, match="at one instant"):
        queue.run_until(10.0)
    assert queue.done <= AT_ONE_INSTANT_MAX + 2
