"""A journal's lines feed a fresh engine, which must decide the same; and what is no journal says where."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest

from nullworker.core import commands, events, journal
from nullworker.core import engine as engine_module
from nullworker.core.causes import Cause
from nullworker.core.journal import JournalError
from nullworker.core.parameters import EndpointState, Parameters, WorkergroupSpec
from tests.unit.core.harness import Scene

EVERY_EVENT: list[events.Event] = [
    events.EndpointPut(1, "e", Parameters(state=EndpointState.SUSPENDED, inactivity_timeout=None)),
    events.WorkergroupPut(WorkergroupSpec(1, 1, "f", occupancy=None)),
    events.Asked(1, 2, 100.0),
    events.HoldEnded(2),
    events.WaiterGone(2),
    events.WorkerReported(1, "u", True, "", 1.5, 0.0, (1, 2), 3, 4),
    events.ReportRefused(1, "url is wrong."),
    events.RequestsFinished(1, (events.Finished(1, "Success", 2.5),)),
    events.WorkerJoined(7, 1),
    events.InstanceCreated(1),
    events.InstanceStarted(1),
    events.InstanceStopped(1),
    events.InstanceGone(1),
    events.InstanceExited(1, "x"),
    events.InstanceFailed(1, "stop", "x", False),
    events.FleetListed("f", 1.0, ((1, "running"),)),
    events.EndpointDeleted(2, force=True),
    events.WorkergroupDeleted(9),
    events.WorkersUpdated(1, cancel=True),
    events.TimePassed(),
    events.Restored(
        5, (events.RestoredWorker(1, 1, "ready", "u", 0.0),), (events.RestoredReservation(1, 1, 1.0, 0, True),)
    ),
]


def test_every_event_comes_back_from_its_line_as_it_was() -> None:
    assert {type(event) for event in EVERY_EVENT} == set(typing.get_args(events.Event))
    for event in EVERY_EVENT:
        back, now, recorded = journal.decode(journal.encode(event, 12.5, []))
        assert back == event
        assert (now, recorded) == (12.5, [])


def test_commands_are_written_with_their_kind_and_all_their_fields() -> None:
    grant = commands.Grant(1, 2, 3, "u", 4.0, 15.0, Cause.FIRST_IN_LINE, "why", 9)
    line = json.loads(journal.encode(events.TimePassed(), 0.0, [grant]))
    assert line["commands"] == [["Grant", {**dataclasses.asdict(grant), "cause": "first_in_line"}]]


@pytest.mark.promise("P14")
def test_a_journal_replays_identically() -> None:
    scene = Scene(cold_workers=1)
    scene.serve(3)
    scene.finishes(1, 1)
    scene.live(100)
    assert journal.replay(scene.journal_lines) == (len(scene.journal_lines), None, None)


def test_a_difference_is_found_at_its_line() -> None:
    scene = Scene()
    scene.serve(1)
    changed = [
        line.replace('"worker_id":1', '"worker_id":2') if '"Create"' in line else line for line in scene.journal_lines
    ]
    handled, difference, _ = journal.replay(changed)
    assert difference is not None
    assert (difference.line, difference.event) == (4, "Asked")
    assert handled == 4
    assert difference.recorded != difference.replayed


def test_a_torn_last_line_is_passed_over_and_a_torn_one_before_is_not() -> None:
    scene = Scene()
    scene.serve(1)
    lines = scene.journal_lines
    assert journal.replay([*lines, lines[-1][:20], "", "\n"]) == (len(lines), None, None)
    with pytest.raises(JournalError, match="line 2: not a journal's line"):
        journal.replay([lines[0], lines[1][:20], lines[2]])


def test_where_an_engine_begins_another_takes_over_and_what_was_torn_before_it_is_passed_over() -> None:
    first, second = Scene(), Scene()
    first.serve(2)
    second.serve(1)
    begins = journal.begin("1.2.3")
    lines = [begins, *first.journal_lines, first.journal_lines[-1][:20], begins, *second.journal_lines]
    assert journal.replay(lines) == (len(first.journal_lines) + len(second.journal_lines), None, None)
    assert [journal.begun_by(line) for line in (begins, first.journal_lines[0], '{"begin":')] == ["1.2.3", None, None]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"now": 1, "event": ["Nothing", {}], "commands": []}',
        '{"now": 1, "event": ["TimePassed", []], "commands": []}',
        '{"now": 1, "event": ["Asked", {"no_such_field": 1}], "commands": []}',
        '{"now": "x", "event": ["TimePassed", {}], "commands": []}',
        (
            '{"now": 1, "commands": [], "event": '
            '["EndpointPut", {"endpoint_id": 1, "name": "e", "parameters": {"min_load": -1}}]}'
        ),
    ],
)
def test_what_is_no_line_of_a_journal_is_an_error(line: str) -> None:
    with pytest.raises(JournalError):
        journal.decode(line)


def test_an_event_at_which_the_core_failed_is_shown_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(cold_workers=1)
    scene.serve(1)
    failing = events.InstanceExited(1, "x")
    lines = [*scene.journal_lines, "# for people", journal.encode_failed(failing, 99.0, LookupError("planted"))]
    handled, difference, failure = journal.replay(lines)
    assert (handled, difference) == (len(scene.journal_lines), None)
    assert failure == journal.Failure(len(lines), repr(failing), "LookupError: planted", "")

    def raise_again(*_: object) -> None:
        raise LookupError("planted")

    monkeypatch.setitem(engine_module._HANDLERS, events.InstanceExited, raise_again)
    rest = [journal.encode(events.TimePassed(), 100.0, []), journal.begin("1"), scene.journal_lines[0]]
    handled, difference, failure = journal.replay([*lines, *rest])
    assert (handled, difference) == (len(scene.journal_lines) + 1, None)  # what followed the failure is passed over
    assert failure == journal.Failure(len(lines), repr(failing), "LookupError: planted", "LookupError: planted")


def test_an_event_at_which_the_core_fails_now_alone_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LookupError("planted")

    scene = Scene(cold_workers=1)
    monkeypatch.setitem(engine_module._HANDLERS, events.EndpointPut, fail)
    failure = journal.replay(scene.journal_lines).failure
    assert failure is not None
    assert (failure.line, failure.recorded, failure.replayed) == (1, "", "LookupError: planted")
