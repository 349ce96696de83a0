"""One seed many times: a crash at every place of its run, and the moment at which a failure became inevitable."""

from __future__ import annotations

import json
import shlex

import pytest

from nullworker.cli import simulate
from nullworker.simulation.run import Reduction, Variation, run
from nullworker.simulation.variations import crashes, decided_at
from tests.simulation.mutants import planted
from tests.simulation.mutations import MUTATIONS

#: Some clients and three minutes of a world are a hundred places or so.
SHORT = Reduction(frozenset({"kill"}), frozenset(range(9, 200)), 180.0)


@pytest.mark.parametrize(
    ("scenario", "seed"),
    [
        ("restarts-only", 9),
        pytest.param("restarts", 8, marks=pytest.mark.long),
        pytest.param("learns", 17, marks=pytest.mark.long),
        ("everything", 18),
        pytest.param("everything-stock", 39, marks=pytest.mark.long),
    ],
)
def test_an_engine_may_be_killed_at_every_place_of_a_run(scenario: str, seed: int) -> None:
    results = list(crashes(seed, scenario, SHORT))
    assert len(results) == results[0].places + 1 > 20
    assert [f"killed at place {n}: {r.failure}" for n, r in enumerate(results, -1) if r.failure is not None] == []


def test_until_the_kill_the_run_is_the_same() -> None:
    as_it_is = run(8, "restarts", SHORT, journal=True)
    killed = run(8, "restarts", SHORT, variation=Variation(kill_at_place=as_it_is.places // 2), journal=True)
    begun_again = [number for number, line in enumerate(killed.journal) if "begin" in json.loads(line)][1]
    assert begun_again > 10
    assert killed.journal[: begun_again - 1] == as_it_is.journal[: begun_again - 1]


def test_the_moment_at_which_a_failure_became_inevitable_is_found() -> None:
    """A waiter that left stays in the line: whatever happens after that, it is found there."""
    (mutation,) = (each for each in MUTATIONS if each.name == "a waiter that left is kept")
    with planted(mutation):
        from nullworker.simulation import run as planted_run
        from nullworker.simulation import variations

        failed = planted_run.run(5, "queue", check_every=1)
        assert failed.failure is not None
        found = variations.decided_at(failed, futures=5)
    assert 0 <= found.open_at_s < found.decided_at_s <= failed.simulated_s
    assert all(moment.inevitable == (moment.at_s >= found.decided_at_s) for moment in found.moments)
    assert found.journal != ()


def test_a_run_that_broke_nothing_has_no_such_moment() -> None:
    with pytest.raises(ValueError, match="breaks no promise"):
        decided_at(run(1, "calm", SHORT))


def test_the_command_crashes_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "--seed 9 --scenario restarts-only --crash-everywhere --without kill --without-clients 4-200 --until 60 --json"
    )
    assert simulate.command.main(shlex.split(line), standalone_mode=False) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["places"] > 5
    assert said["failures"] == 0
