"""Traces: what can be read, what is refused and in which words, and what is made up."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from nullworker.simulation.traces import SYNTHETIC, Job, TraceError, read_trace

if TYPE_CHECKING:
    from pathlib import Path


def read(tmp_path: Path, text: str) -> list[Job]:
    path = tmp_path / "jobs.csv"
    path.write_text(text)
    return read_trace(path)


def test_the_two_columns_are_found_among_others(tmp_path: Path) -> None:
    jobs = read(tmp_path, "id,duration_s,arrival_s\na,5,1\nb,6,1.5\n")
    assert jobs == [Job(1, 5), Job(1.5, 6)]


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    assert len(read(tmp_path, "arrival_s,duration_s\n1,2\n\n3,4\n")) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: there is no column arrival_s"),
        ("arrival_s\n1\n", "line 1: there is no column duration_s"),
        ("arrival_s,duration_s\n", "holds no job"),
        ("arrival_s,duration_s\n1,x\n", "line 2"),
        ("arrival_s,duration_s\n1\n", "line 2"),
        ("arrival_s,duration_s\n1,2\n1,-2\n", "line 3: a number is negative"),
        ("arrival_s,duration_s\n1,nan\n", "line 2: a number is not finite"),
        ("arrival_s,duration_s\n5,2\n\n4,2\n", "line 4: the arrival 4 is before the one above"),
    ],
)
def test_a_wrong_trace_is_one_sentence_with_the_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TraceError, match=said):
        read(tmp_path, text)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read_trace(tmp_path / "no-such.csv")


@pytest.mark.long
def test_a_million_rows_are_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, "arrival_s,duration_s\n" + "1,2\n" * 1_000_000)) == 1_000_000


@pytest.mark.parametrize("name", SYNTHETIC)
def test_what_is_made_up_is_sorted_and_the_same_for_the_same_seed(name: str) -> None:
    jobs = SYNTHETIC[name](Random(3))
    assert jobs == SYNTHETIC[name](Random(3))
    assert jobs != SYNTHETIC[name](Random(4))
    assert len(jobs) > 500
    assert [job.arrival_s for job in jobs] == sorted(job.arrival_s for job in jobs)
