from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.core.events import RestoredReservation, RestoredWorker
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine import store
from nullworker.engine.catalog import EndpointEntry, WorkergroupEntry
from nullworker.engine.config import WorkergroupConfig
from nullworker.engine.decisions import Decision
from nullworker.engine.store import Loaded, Store, StoreError
from nullworker.engine.store_file import connect

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "engine.db"


def reopened(path: Path) -> Loaded:
    """What an engine that starts now would know."""
    with closing(Store.open(path)) as again:
        return again.load()


def killed(opened: Store) -> None:
    """Ends a store as a kill would, once all that was left in it is written: it never says that it was closed."""
    assert opened._writer.flush()
    opened._writer.close()


def test_a_new_store_is_empty(path: Path) -> None:
    assert reopened(path) == Loaded()


def test_all_that_was_left_is_there_after_a_restart(path: Path) -> None:
    endpoint = EndpointEntry(1, "a", TESTED_PARAMETERS, 1.5)
    group = WorkergroupEntry(2, 1, WorkergroupConfig(), 1.5, {})
    decision = Decision(1.5, 3, "create", 1, 7, 0, "load", "because")
    told = RestoredWorker(
        8,
        2,
        "ready",
        "http://h:2",
        100.0,
        owned=False,
        ends_told=((4, False, 1.5e9), (5, True, 0.1)),
        ends_expected=((5, 2),),
    )
    with closing(Store.open(path)) as first:
        first.put_endpoint(endpoint)
        first.put_workergroup(group)
        first.put_worker(RestoredWorker(7, 2, "ready", "http://h:1", 100.0, True))
        first.put_worker(told)
        first.put_reservation(RestoredReservation(5, 1, 100.0, 0, False))
        first.put_reservation(RestoredReservation(4, 1, 50.0, 7, True, 30.0, received=3))
        first.add_decision(decision)
        first.add_usage(2, "ready", 1.5)
        first.add_usage(2, "ready", 1.0)
        first.reserve_request_places(10_000)
    loaded = reopened(path)
    assert (loaded.endpoints, loaded.workergroups, loaded.decisions) == ([endpoint], [group], [decision])
    assert loaded.workers == [
        RestoredWorker(7, 2, "ready", "http://h:1", 100.0, owned=True),
        told,
    ]
    assert loaded.reservations == [
        RestoredReservation(4, 1, 50.0, 7, confirmed=True, replay_timeout_s=30.0, received=3),
        RestoredReservation(5, 1, 100.0, 0, confirmed=False),
    ]
    assert loaded.usage == {(2, "ready"): 2.5}
    assert (loaded.next_worker_id, loaded.next_request_place, loaded.next_id) == (8, 10_000, 3)
    assert loaded.was_closed


def test_what_was_forgotten_stays_forgotten_and_its_numbers_are_not_given_again(path: Path) -> None:
    with closing(Store.open(path)) as first:
        first.put_endpoint(EndpointEntry(1, "a", TESTED_PARAMETERS, 1.5))
        first.put_workergroup(WorkergroupEntry(2, 1, WorkergroupConfig(), 1.5, {}))
        first.put_worker(RestoredWorker(7, 2, "ready", "", 100.0, True))
        first.put_reservation(RestoredReservation(5, 1, 100.0, 7, True))
        first.delete_endpoint(1)
        first.delete_workergroup(2)
        first.delete_worker(7)
        first.delete_reservation(5)
    assert reopened(path) == Loaded(next_worker_id=8, next_id=3)


def test_the_id_of_a_worker_that_joined_does_not_push_ours(path: Path) -> None:
    with closing(Store.open(path)) as first:
        first.put_worker(RestoredWorker(2**53 - 1, 2, "ready", "", 100.0, False))
    assert reopened(path).next_worker_id == 1


def test_after_a_kill_numbers_go_on_beyond_what_may_have_been_given(path: Path) -> None:
    first = Store.open(path)
    first.put_worker(RestoredWorker(7, 2, "ready", "", 100.0, True))
    first.reserve_request_places(10_000)
    killed(first)
    loaded = reopened(path)
    assert loaded.next_worker_id == 8 + store.WORKER_IDS_SKIPPED
    assert loaded.next_request_place == 10_000 + store.REQUEST_PLACES_SKIPPED
    assert not loaded.was_closed


def test_an_operators_change_is_written_when_the_call_returns(path: Path) -> None:
    with closing(Store.open(path)) as opened:
        opened.put_endpoint(EndpointEntry(1, "a", TESTED_PARAMETERS, 1.5))
        with closing(connect(path)) as db:
            assert db.execute("SELECT name FROM endpoints").fetchall() == [("a",)]


def granted(request_idx: int, worker_id: int, **known: Any) -> RestoredReservation:
    return RestoredReservation(request_idx, 1, 100.0, worker_id, **{"confirmed": False, **known})


@pytest.mark.promise("P11")
def test_a_grant_is_written_when_the_call_returns(path: Path) -> None:
    first = Store.open(path)
    first.put_reservation(granted(5, 0, replay_timeout_s=45.0))
    first.write_now([], [granted(5, 7, replay_timeout_s=45.0), granted(6, 8)])
    with closing(connect(path)) as db:
        rows = db.execute("SELECT request_idx, worker_id FROM reservations ORDER BY 1").fetchall()
    assert rows == [(5, 7), (6, 8)]
    killed(first)
    assert reopened(path).reservations == [granted(5, 7, replay_timeout_s=45.0), granted(6, 8)]


@pytest.mark.promise("P11")
def test_what_came_of_a_grant_counts_and_not_the_grant(path: Path) -> None:
    """A session that ended before the kill does not come back as a grant."""
    first = Store.open(path)
    for request_idx in (5, 6, 7):
        first.write_now([], [granted(request_idx, request_idx)])
    first.delete_reservation(5)
    first.put_reservation(granted(6, 6, confirmed=True))
    first.put_reservation(granted(7, 0))
    killed(first)
    assert [(r.request_idx, r.worker_id, r.confirmed) for r in reopened(path).reservations] == [
        (6, 6, True),
        (7, 0, False),
    ]


def test_the_grant_files_of_an_older_version_are_removed_after_a_clean_end(path: Path) -> None:
    Store.open(path).close()
    log = path.with_name("grants-3.log")
    log.write_text("[1,5,1,7,100.0]\n")
    Store.open(path).close()
    assert not log.exists()


def test_the_grant_files_of_an_older_version_that_was_killed_are_refused_with_a_sentence(path: Path) -> None:
    killed(Store.open(path))
    log = path.with_name("grants-3.log")
    log.write_text("[1,5,1,7,100.0]\n")
    with pytest.raises(StoreError, match=r"its grants-3\.log may have grants .* start and stop it once"):
        Store.open(path)
    assert log.exists()


KILLED_AT_ONCE = """
import os, pathlib, signal, sys
from nullworker.core.events import RestoredReservation
from nullworker.engine.store import Store

store = Store.open(pathlib.Path(sys.argv[1]))
store._writer._write_batch = lambda: True  # the writer's thread writes nothing
store.reserve_request_places(77_000)
store.write_now([], [RestoredReservation(5, 1, 100.0, 7, confirmed=False)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.promise("P11")
def test_a_grant_and_reserved_numbers_survive_a_kill_at_once(path: Path) -> None:
    """A real process, killed before its writer had a turn."""
    ended = subprocess.run([sys.executable, "-c", KILLED_AT_ONCE, str(path)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    loaded = reopened(path)
    assert loaded.reservations == [RestoredReservation(5, 1, 100.0, 7, confirmed=False)]
    assert loaded.next_request_place == 77_000 + store.REQUEST_PLACES_SKIPPED


def test_closing_twice_is_no_error_and_nothing_is_running_after_it(path: Path) -> None:
    opened = Store.open(path)
    opened.close()
    opened.close()
    assert opened.error == ""


def test_a_damaged_store_is_refused_with_a_sentence(path: Path) -> None:
    with closing(Store.open(path)) as first:
        for number in range(1, 500):
            first.put_worker(RestoredWorker(number, 2, "ready", "http://h:1" * 10, 100.0, True))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"engine\.db is damaged \(.*\); bring it back from a copy"):
        reopened(path)


def test_a_row_that_makes_no_sense_is_refused_with_a_sentence(path: Path) -> None:
    with closing(Store.open(path)) as first:
        first.put_endpoint(EndpointEntry(1, "a", TESTED_PARAMETERS, 1.5))
    with closing(connect(path)) as db:
        db.execute("UPDATE endpoints SET parameters = '{\"min_load\": -1}'")
    with pytest.raises(StoreError, match="is damaged"):
        reopened(path)


WRITING = """
import itertools, pathlib, sys
from nullworker.core.events import RestoredReservation
from nullworker.engine.store import Store

store = Store.open(pathlib.Path(sys.argv[1]))
for number in itertools.count(1):
    store.write_now([], [RestoredReservation(number, 1, 100.0, number + 10, False)])
    print("granted", number, flush=True)
    store.put_reservation(RestoredReservation(number, 1, 100.0, number + 10, number % 2 == 0))
    if number % 3 == 0:
        store.delete_reservation(number)
    if number % 500 == 0:
        assert store._writer.flush()
        print("written", number, flush=True)
"""


@pytest.mark.promise("P11")
def test_a_writing_process_that_is_killed_loses_no_grant_it_answered(path: Path) -> None:
    """Real processes, killed wherever they happen to be: what they said was granted is there, what they said was
    written as ended is gone.
    """
    for lines_before_the_kill in (1, 700, 1_803):
        granted, written = _run_and_kill(path, lines_before_the_kill)
        loaded = reopened(path)
        found = {r.request_idx: r for r in loaded.reservations}
        for number in granted:
            if number % 3:
                assert found[number].worker_id == number + 10
        assert not [number for number in found if number % 3 == 0 and number <= written]
        assert all(found[n].confirmed == (n % 2 == 0) for n in granted if n <= written and n % 3)
        for file in path.parent.iterdir():
            file.unlink()


def _run_and_kill(path: Path, lines: int) -> tuple[list[int], int]:
    """Which grants the process said it answered, and up to which number it said that all was written."""
    granted, written = [], 0
    with subprocess.Popen([sys.executable, "-c", WRITING, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for count, line in enumerate(child.stdout, 1):
            if count == lines:
                child.send_signal(signal.SIGKILL)
            word, number = line.split() if line.endswith("\n") else ("", "0")
            if word == "granted":
                granted.append(int(number))
            elif word == "written":
                written = int(number)
        assert child.wait(timeout=60) == -signal.SIGKILL
    return granted, written
