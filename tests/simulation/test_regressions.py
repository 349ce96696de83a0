"""Mistakes that were found once, each kept as the events that led to it and what must hold after them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from nullworker.simulation.run import run
from tests.simulation.journals import FOLDER, load, replay, save, wrong_with

if TYPE_CHECKING:
    from pathlib import Path

REGRESSIONS = sorted(FOLDER.glob("*.jsonl.gz"))


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.name.partition(".")[0])
def test_a_mistake_of_the_core_is_not_made_again(path: Path) -> None:
    kept = load(path)
    assert wrong_with(kept.must, *replay(kept.lines)) == [], f"{kept.about} ({kept.said})"


def test_the_journals_are_there_and_say_what_must_hold() -> None:
    journals = [load(path) for path in REGRESSIONS]
    assert len(journals) >= 16
    for kept in journals:
        assert kept.about
        assert kept.must.never or kept.must.always or kept.must.workers or kept.must.requests


def test_a_journal_is_written_as_it_was_read(tmp_path: Path) -> None:
    path = REGRESSIONS[0]
    saved = save(load(path), tmp_path).read_bytes()
    assert gzip.decompress(saved) == gzip.decompress(path.read_bytes())  # gzip's header differs between Pythons


@pytest.mark.parametrize(
    ("seed", "scenario"),
    [
        # A grant that had run out before the engine stood still bound again after it.
        (1015667, "network-stock"),
        (1024399, "everything-stock"),
        (1027359, "everything-stock"),
        # A report made after a grant's end freed a worker that was not held.
        (1003328, "restarts"),
        # A client that was told its number a moment ago was not counted.
        (1003608, "restarts"),
        (1006048, "restarts"),
        (1008748, "restarts"),
        # A long queue of long jobs was taken for a standstill.
        (1002285, "queue"),
        # A deletion was taken back when an update of the same workers was cancelled.
        (232518841576055, "operators"),
        # A worker that was ready and loads for ever was taken for one that does not fail.
        (2542534296520058, "everything"),
        # What an engine was told that was killed before it wrote it down was held against the next one.
        (2966680411021918, "everything"),
        # A creation that came to nothing after its worker was ordered away was taken for a failure of its workergroup.
        (1067559527448899, "everything-stock"),
        # A late report was taken for a sign of life of the time when it came.
        (1821486226002477, "learns"),
        # Clients that probe how many a worker takes wait for longer.
        (1185756417577143, "calm-learns"),
        # A grant that was taken over counts from the start, and not before all was heard of the time of a standstill.
        (3744374256105048, "restarts"),
        # What an engine was told that was killed before it wrote it down confirmed a grant of the next one.
        (1205917887375868, "restarts"),
        (3251892520878517, "learns"),
        # Ends that a worker's process of before told were counted to the present one, whose reports seemed old by that.
        (2355581036879479, "everything-stock"),
        # A grant that was used in a process that is over was taken for one that may be used yet.
        (4197644467636159, "everything-stock"),
        # A report of a session whose end was told before confirmed the next grant of the same request.
        (3137962095945017, "learns"),
        # A worker that was stopped, started when it was needed, and idle again within a second seemed to be told twice.
        (98210871077462, "calm-any"),
        # A creation from before a change of the endpoint fails together with one that the change led to.
        (1109108050533918, "everything"),
        # A creation was ordered again after a restart and refused, when the first order had made the worker.
        (2741262778814018, "everything"),
        # A grant that had run out before the clock jumped was taken for one that the jump left open.
        (2373045305097138, "everything"),
        # A numbered report that counted less than one after it, a sign of life alone, was taken for the newest.
        (2305028413036626, "network"),
        # A session beside which its request was refused was taken for that of the next grant.
        (3617574179755377, "learns"),
        # One that has a session, and was sent to another worker since, was counted once.
        (3327425215085897, "learns"),
        # A grant that was used, and that a sign of life alone told of before a restart, was taken for one that ran out.
        (1066269368228968, "restarts"),
        # A grant seemed to have run out by a clock that had fallen back before it was answered.
        (799175140508979, "everything-stock"),
        # A worker that had failed, and was released when its session had ended, seemed to go without a reason.
        (3190510140642079, "everything-stock"),
    ],
)
def test_a_world_that_a_checker_took_for_broken_breaks_nothing(seed: int, scenario: str) -> None:
    """These were mistakes of the checkers, in worlds as they are drawn today; no journal of the core can keep them."""
    result = run(seed, scenario)
    assert result.failure is None, f"\n{result.failure}"
