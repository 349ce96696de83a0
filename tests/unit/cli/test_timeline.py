"""The demo's picture of workers and jobs over time."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from nullworker.cli.demo.history import Moment
from nullworker.cli.demo.timeline import JOBS, LEFT, RIGHT, WORKERS, timeline


def moment(at_s: float, **counts: int) -> Moment:
    zeros = dict.fromkeys(("waiting_jobs", "waiters", "booting", "ready", "held", "leaving", "done"), 0)
    return Moment(at_s, **{**zeros, **counts})


MOMENTS = [
    moment(0.0, waiting_jobs=2),
    moment(1.0, waiting_jobs=2, booting=2, waiters=2),
    moment(2.0, held=2),
    moment(3.0, ready=2, done=2),
    moment(4.0, done=2),
]


def test_each_state_is_drawn_from_its_moment_to_the_next() -> None:
    svg = timeline(MOMENTS)
    held = re.findall(r'<polygon points="([^"]*)"', svg)[0].split()
    top, bottom = WORKERS
    middle = (LEFT + RIGHT) / 2
    assert f"{middle:.1f},{top:.1f}" in held  # at 2 s of 4, both of at most two workers
    assert held[0] == f"{LEFT:.1f},{bottom:.1f}"


@pytest.mark.parametrize("moments", [[], MOMENTS[:1], MOMENTS])
def test_it_is_well_formed_whatever_there_was(moments: list[Moment]) -> None:
    root = ET.fromstring(timeline(moments).encode())
    assert root.tag.endswith("svg")


def test_the_legends_are_above_the_charts_and_hide_nothing() -> None:
    root = ET.fromstring(timeline(MOMENTS).encode())
    squares = [float(e.get("y", "")) for e in root.iter() if e.tag.endswith("rect") and e.get("width") == "12"]
    assert len(squares) == 6
    assert not [y for y in squares if any(top <= y <= bottom for top, bottom in (WORKERS, JOBS))]
