"""``nullworker simulate`` as its users meet it: what it refuses, in which words, and what it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nullworker.cli import hunt, simulate
from nullworker.cli.errors import UserError

TRACE = Path(__file__).resolve().parents[3] / "examples" / "traces" / "bursty.csv"


def command(line: str) -> int:
    """Exit code of ``nullworker simulate LINE``."""
    return int(simulate.command.main(shlex.split(line), standalone_mode=False))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--trace {trace} --chart fleet.txt", "must end in .png or .svg"),
        ("--compare --chart fleet.txt", "must end in .png or .svg"),
        ("--trace {trace} --chart {nowhere}/fleet.svg", "cannot be written"),
        ("--trace {trace} --sweep cold_workers=5..1", "is an empty range"),
        ("--trace {trace} --sweep cold_workers=x", "must be a number"),
        ("--trace {trace} --sweep colour=1", "is not NAME=VALUE"),
        ("--trace {trace} --set target_util=7", "target_util is 7"),
        ("--trace {nowhere}.csv", "cannot be read"),
        ("--soak --scenario nowhere", "There is no scenario nowhere"),
    ],
)
def test_what_it_cannot_use_is_one_sentence(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        command(line.format(trace=TRACE, nowhere=tmp_path / "nowhere"))
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_comparison_names_the_source_of_each_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "jobs.csv"
    trace.write_text("arrival_s,duration_s\n0,60\n10,60\n")
    chart = tmp_path / "rivals.svg"
    assert command(f"--compare --json --trace {trace} --chart {chart}") == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["beaten_by"] == []
    assert {row["policy"] for row in answer["rows"]} == {"nullworker", *answer["rules"]}
    assert all(answer["rules"].values())
    assert chart.stat().st_size > 1000


def test_a_sweep_says_which_sets_are_on_the_frontier_and_draws_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "jobs.csv"
    trace.write_text("arrival_s,duration_s\n0,60\n10,60\n300,20\n")
    chart = tmp_path / "sweep.png"
    assert command(f"--sweep cold_workers=0,1 --json --trace {trace} --chart {chart}") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["cold_workers"] for row in rows] == [0, 1]
    assert any(row["frontier"] for row in rows)
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_a_soak_adds_what_it_ran_to_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "soak.json"
    monkeypatch.setattr(hunt, "RECORD", record)
    monkeypatch.setattr(hunt, "BATCH", 1)
    seeds = []
    for _ in range(2):
        assert command("--soak --minutes 0.01 --scenario calm --json") == 0
        seeds.append(json.loads(capsys.readouterr().out)["seeds"])
    kept: dict[str, Any] = json.loads(record.read_text())
    assert min(seeds) >= 1
    assert kept["seeds"] == kept["next_seed"] - hunt.FIRST_SEED == sum(seeds)
    assert kept["last_soak"]["seeds"] == seeds[1]
    assert kept["failures"] == []
    assert kept["times_real_time_a_core"] > 0
