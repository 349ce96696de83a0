"""``nullworker simulate`` as its users meet it: what it refuses, in which words, and what it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from nullworker.cli import hunt, simulate
from nullworker.cli.errors import UserError
from nullworker.simulation.queueing import run
from nullworker.simulation.queueing.checkers import Broken

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
        ("--exhaustive --scenario nowhere", "There is no scope nowhere"),
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


def soaked(record: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a soak says that is over before a process could begin: one batch is run all the same."""
    assert command(f"--soak --minutes 0.01 --scenario calm --json --record {record}") == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    return said


def test_a_walk_says_how_far_it_came_and_what_it_has_not_seen(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--exhaustive --scenario calm --states 20 --json") == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert row["broken"] == ""
    assert row["states"] >= 20
    assert row["transitions"] >= row["states"] - 2
    assert row["code"] == hunt.code_digest("queueing") != hunt.code_digest()
    assert "Destroy failed_silent" in row["unseen"]


def test_a_soak_adds_what_it_ran_to_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hunt, "BATCH", 1)
    record = tmp_path / "soak.json"
    said = [soaked(record, capsys) for _ in range(2)]
    kept: dict[str, Any] = json.loads(record.read_text())
    seeds = said[0]["seeds"] + said[1]["seeds"]
    assert min(each["seeds"] for each in said) >= 1
    assert kept["seeds"] == kept["on_this_code"]["seeds"] == said[1]["on_this_code"]["seeds"] == seeds
    assert kept["code"] == hunt.code_digest()
    assert kept["failures"] == []
    assert kept["times_real_time_a_core"] > 0
    assert list(tmp_path.iterdir()) == [record]


def test_the_count_of_a_soak_begins_at_0_when_the_code_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(hunt, "BATCH", 1)
    record = tmp_path / "soak.json"
    before = soaked(record, capsys)["seeds"]
    monkeypatch.setattr(hunt, "code_digest", lambda: "other")
    after = soaked(record, capsys)
    assert after["on_this_code"]["seeds"] == after["seeds"]
    kept = json.loads(record.read_text())
    assert (kept["code"], kept["seeds"]) == ("other", before + after["seeds"])


def test_the_digest_of_the_code_changes_with_each_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("core", "simulation"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("one\n")
    monkeypatch.setattr(hunt, "PACKAGE", tmp_path)
    digests = {hunt.code_digest()}
    (tmp_path / "core" / "a.py").write_text("two\n")
    digests.add(hunt.code_digest())
    (tmp_path / "simulation" / "b.py").write_text("")
    digests.add(hunt.code_digest())
    assert len(digests) == 3


def test_it_computes_on_the_cores_that_it_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 2, 5}, raising=False)
    assert hunt.cores() == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert hunt.cores() == 7


def test_seeds_of_the_dispatcher_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--dispatcher --seed 5") == 0
    assert "seed 5: kept, 12 jobs" in capsys.readouterr().out
    assert command("--dispatcher --seed 5 --seeds 2") == 0
    assert capsys.readouterr().out.startswith("2 seeds, 0 failures, ")
    assert command("--dispatcher --seed 5 --json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["seed"], row["failure"], row["jobs"]) == (5, "", 12)
    assert "a worker lost" in row["seen"]


def test_a_failing_seed_of_the_dispatcher_shows_what_was_decided_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "broken", lambda _: [Broken(1000.0, "job 1 was never done")])
    assert command("--dispatcher --seed 5") == 1
    lines = capsys.readouterr().out.splitlines()
    assert "waiting" in lines[0]
    assert "wants" in lines[0]
    assert lines[-2:] == ["seed 5: job 1 was never done", "  nullworker simulate --dispatcher --seed 5"]


@pytest.mark.parametrize("other", ["--soak", "--scenario calm", "--until 3", "--exhaustive"])
def test_the_dispatchers_worlds_have_no_options_of_the_core(other: str) -> None:
    with pytest.raises(click.UsageError, match="--dispatcher goes with"):
        command(f"--dispatcher --seed 5 {other}")


@pytest.mark.parametrize("other", ["queueing", "exhaustive"])
def test_what_a_soak_runs_none_of_does_not_change_the_digest(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dispatcher's simulator, and the walk: what was soaked holds as it did."""
    for folder in ("core", f"simulation/{other}", "demand"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(hunt, "PACKAGE", tmp_path)
    before = hunt.code_digest()
    (tmp_path / "simulation" / other / "a.py").write_text("one\n")
    (tmp_path / "demand" / "a.py").write_text("one\n")
    assert hunt.code_digest() == before
