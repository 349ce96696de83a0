"""What is open and what was spent is in a file that survives a kill."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nullworker.dispatch.store import DispatchStore, DispatchStoreError, Row
from tests.kit.open_files import open_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY_S = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DispatchStore]:
    store = DispatchStore(tmp_path / "state" / "dispatch.db")
    yield store
    store.close()


def test_each_step_of_a_reservation_is_there_for_the_next_dispatcher(store: DispatchStore, tmp_path: Path) -> None:
    store.asked("a", "gpu q", 1.0)
    store.asked("b", "gpu q", 2.0)
    store.asked("c", "gpu q", 3.0)
    store.creating("b", 4.0, {"auth_data": 1})
    store.creating("c", 4.0, None)
    store.held("c", 5.0, {"session_id": "s"})
    store.close()
    heir = DispatchStore(tmp_path / "state" / "dispatch.db")
    assert heir.open_rows("gpu q") == [
        Row("a", "gpu q", "asked", 1.0),
        Row("b", "gpu q", "creating", 2.0, 4.0, None, {"auth_data": 1}),
        Row("c", "gpu q", "held", 3.0, 4.0, 5.0, {"session_id": "s"}),
    ]
    heir.close()


def test_one_that_waits_again_is_asked_for_again(store: DispatchStore) -> None:
    store.asked("a", "gpu q", 1.0)
    store.creating("a", 2.0, {"auth_data": 1})
    store.asked("a", "gpu q", 1.0)
    assert store.open_rows("gpu q") == [Row("a", "gpu q", "asked", 1.0)]


def test_what_is_closed_is_gone_and_counted(store: DispatchStore) -> None:
    store.asked("a", "gpu q", 1.0)
    store.asked("b", "gpu q", 2.0)
    for row in store.open_rows("gpu q"):
        store.closed(row, 100.0, 50.0 if row.id == "a" else 0.0, 0.5)
    assert store.open_rows("gpu q") == []
    assert store.spent_since(0.0) == 0.5
    assert store.trace_rows(["gpu q"]) == [(1.0, 50.0)]
    assert store.longest_held_s("gpu q") == 50.0
    assert store.longest_held_s("gpu other") == 0.0


def test_of_a_reservation_only_the_part_within_the_time_asked_for_counts(store: DispatchStore) -> None:
    store.closed(Row("a", "gpu q", "held", 0.0), 1000.0, 400.0, 4.0)
    assert store.spent_since(900.0) == pytest.approx(1.0)
    assert store.spent_since(1000.0) == 0.0
    assert store.spent_since(-5.0) == pytest.approx(4.0)


def test_what_is_older_than_any_limit_asks_for_is_forgotten(store: DispatchStore) -> None:
    store.closed(Row("a", "gpu q", "held", 0.0), 1000.0, 400.0, 4.0)
    store.closed(Row("b", "gpu q", "held", 0.0), 1000.0 + 50 * DAY_S, 400.0, 4.0)
    assert len(store.trace_rows(["gpu q"])) == 1


def test_bindings_that_are_no_longer_configured_are_known(store: DispatchStore) -> None:
    store.asked("a", "gpu q", 1.0)
    store.asked("b", "gpu other", 1.0)
    assert store.other_bindings(["gpu q"]) == ["gpu other"]


def test_a_binding_has_one_dispatcher_at_a_time(store: DispatchStore, tmp_path: Path) -> None:
    store.claim("gpu q")
    second = DispatchStore(tmp_path / "state" / "dispatch.db")
    second.claim("gpu other")
    with pytest.raises(DispatchStoreError, match="Another dispatcher serves gpu q"):
        second.claim("gpu q")
    store.close()
    second.claim("gpu q")
    second.close()


def test_a_killed_dispatcher_does_not_keep_its_bindings(store: DispatchStore, tmp_path: Path) -> None:
    """The lock is the process's own, and dies with it."""
    file = tmp_path / "state" / "dispatch.db"
    script = (
        "import sys, pathlib; from nullworker.dispatch.store import DispatchStore\n"
        "store = DispatchStore(pathlib.Path(sys.argv[1])); store.claim('gpu q'); store.asked('a', 'gpu q', 1.0)\n"
        "print('claimed', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "claimed\n"
        with pytest.raises(DispatchStoreError):
            store.claim("gpu q")
        process.kill()
    store.claim("gpu q")
    assert [row.id for row in store.open_rows("gpu q")] == ["a"]


def test_only_its_owner_can_read_it(store: DispatchStore, tmp_path: Path) -> None:
    """It has in it what proves that a session is ours."""
    store.asked("a", "gpu q", 1.0)
    store.claim("gpu q")
    for file in (tmp_path / "state").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_record_is_not_shown_by_accident() -> None:
    assert "secret" not in repr(Row("a", "gpu q", "held", 1.0, 1.0, 1.0, {"auth_data": "secret"}))


def test_a_file_that_is_something_else_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "dispatch.db").write_text("something else, and long enough to have been read" * 10)
    with pytest.raises(DispatchStoreError, match=r"dispatch\.db cannot be used \(file is not a database\)") as error:
        DispatchStore(tmp_path / "dispatch.db")
    assert open_files(tmp_path) == [], f"closed, though {error!r} is kept"


def test_a_file_of_another_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "dispatch.db") as db:
        db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(DispatchStoreError, match="version 7") as error:
        DispatchStore(tmp_path / "dispatch.db")
    assert open_files(tmp_path) == [], f"closed, though {error!r} is kept"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE jobs (id INTEGER)",
        "CREATE TABLE reservations (id TEXT, holder TEXT); PRAGMA user_version = 1",
        "PRAGMA user_version = 1",
    ],
    ids=["another's", "of the same name", "lost its tables"],
)
def test_a_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path, statement: str) -> None:
    file = tmp_path / "dispatch.db"
    with sqlite3.connect(file) as db:
        db.executescript(statement)
    db.close()
    before = file.read_bytes()
    with pytest.raises(DispatchStoreError, match="is the database of another program") as error:
        DispatchStore(file)
    assert file.read_bytes() == before
    assert open_files(tmp_path) == [], f"closed, though {error!r} is kept"


def test_a_directory_that_cannot_be_made_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DispatchStoreError, match="cannot be used"):
        DispatchStore(tmp_path / "file" / "dispatch.db")


def test_a_disk_that_refuses_is_an_error_of_the_ledger(store: DispatchStore) -> None:
    """And what was there before is there still."""
    store.asked("a", "gpu q", 1.0)
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(DispatchStoreError, match="readonly"):
        store.asked("b", "gpu q", 1.0)
    store._db.execute("PRAGMA query_only = OFF")
    assert [row.id for row in store.open_rows("gpu q")] == ["a"]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o703])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(DispatchStoreError, match=f"{state} may be written by other users"):
        DispatchStore(state / "dispatch.db")
    assert list(state.iterdir()) == []
    state.chmod(0o755)
    DispatchStore(state / "dispatch.db").close()


def test_a_database_that_is_a_link_or_that_others_may_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dispatch.db"
    elsewhere = tmp_path / "elsewhere"
    path.symlink_to(elsewhere)
    with pytest.raises(DispatchStoreError, match="is a symbolic link"):
        DispatchStore(path)
    assert not elsewhere.exists()
    path.unlink()
    path.touch()
    path.chmod(0o666)
    with pytest.raises(DispatchStoreError, match="may be written by other users"):
        DispatchStore(path)
