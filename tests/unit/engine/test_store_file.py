from __future__ import annotations

import dataclasses
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nullworker.core.causes import Cause
from nullworker.core.parameters import TESTED_PARAMETERS, EndpointState, Parameters
from nullworker.engine import store_file
from nullworker.engine.catalog import EndpointEntry, WorkergroupEntry
from nullworker.engine.config import WorkergroupConfig
from nullworker.engine.store_file import (
    APPLICATION_ID,
    MIGRATIONS,
    StoreError,
    connect,
    copy_path,
    open_store_file,
    pragma,
    worker_of,
)
from tests.kit.open_files import open_files

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_store_is_its_owners_alone_and_marked_as_ours(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    open_store_file(path)
    open_store_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(connect(path)) as db:
        assert pragma(db, "application_id") == store_file.APPLICATION_ID
        assert pragma(db, "user_version") == len(store_file.MIGRATIONS)
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        for side in ("engine.db-wal", "engine.db-shm"):
            assert (tmp_path / side).stat().st_mode & 0o777 == 0o600


def test_a_newer_store_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    open_store_file(path)
    with closing(connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(
        StoreError, match=r"written by a newer nullworker \(version 99 of its tables; this one knows 6\)"
    ):
        open_store_file(path)
    with closing(connect(path)) as db:
        assert pragma(db, "user_version") == 99


def test_a_ledger_from_before_there_were_causes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    sentences = ["", "its workergroup is updated", "endpoint null-prod is deleted", "workergroup 7 is deleted"]
    with closing(connect(path)) as db:
        for script in MIGRATIONS[:2]:
            db.executescript(script)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 2")
        for number, sentence in enumerate(sentences, 1):
            db.execute("INSERT INTO workers VALUES (?, 1, 'ready', '', 100.0, 1, ?)", (number, sentence))
        db.execute("INSERT INTO decisions VALUES (1, 2.0, 3, 'create', 4, 5, 0, 'because')")
    open_store_file(path)
    with closing(connect(path)) as db:
        retire = [worker_of(row).retire for row in db.execute("SELECT * FROM workers ORDER BY id")]
        assert retire == [None, Cause.UPDATED, Cause.ENDPOINT_DELETED, Cause.WORKERGROUP_DELETED]
        assert db.execute("SELECT event_number, cause, reason FROM decisions").fetchall() == [(3, "", "because")]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_an_older_store_is_kept_as_it_was_and_brought_up_to_date(tmp_path: Path, version: int) -> None:
    path = tmp_path / "engine.db"
    older_store(path, version)
    open_store_file(path)
    kept = copy_path(path, version)
    assert kept.stat().st_mode & 0o777 == 0o600
    for file, tables in ((path, len(MIGRATIONS)), (kept, version)):
        with closing(sqlite3.connect(file)) as db:
            assert (pragma(db, "user_version"), pragma(db, "application_id")) == (tables, APPLICATION_ID)
            assert db.execute("SELECT name FROM endpoints").fetchall() == [("null-prod",)]
    kept.replace(path)  # a rollback, and another upgrade
    open_store_file(path)
    assert kept.exists()
    with closing(connect(path)) as db:
        assert pragma(db, "user_version") == len(MIGRATIONS)


def test_a_store_that_is_up_to_date_or_new_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    open_store_file(path)
    open_store_file(path)
    assert list(tmp_path.glob("engine.db.v*")) == []


def test_a_store_that_cannot_be_copied_is_not_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    older_store(path, 1)
    copy_path(path, 1).mkdir()
    with pytest.raises(
        StoreError, match=r"cannot be copied to engine.db.v1, which comes before its upgrade \(.+\); make"
    ):
        open_store_file(path)
    with closing(connect(path)) as db:
        assert pragma(db, "user_version") == 1
    assert list(tmp_path.glob(".engine.db*")) == []


def older_store(path: Path, version: int) -> None:
    """As an older nullworker left it, with an endpoint."""
    endpoint = EndpointEntry(1, "null-prod", TESTED_PARAMETERS, 1.5)
    with closing(connect(path)) as db:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version}")
        db.execute(store_file.STATEMENTS["endpoints"][0], store_file.endpoint_row(endpoint))


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "engine.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()
    with pytest.raises(StoreError, match="is no store of nullworker's") as error:
        open_store_file(path)
    assert open_files(tmp_path) == [], f"closed, though {error!r} is kept"


@pytest.mark.parametrize("content", [b"plain text, long enough to be looked at as a database's head" * 10, b"x" * 4096])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "engine.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged \(file is not a database\); bring it back from a copy") as error:
        open_store_file(path)
    assert path.read_bytes() == content
    assert open_files(tmp_path) == [], f"closed, though {error!r} is kept"


def test_a_link_and_a_directory_in_its_place_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store_file(tmp_path / "link.db")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store_file(tmp_path)


def test_rows_say_what_they_were_made_of() -> None:
    suspended = dataclasses.replace(TESTED_PARAMETERS, state=EndpointState.SUSPENDED, inactivity_timeout=None)
    for parameters in (Parameters(), TESTED_PARAMETERS, suspended):
        endpoint = EndpointEntry(1, "näme", parameters, 1.5, from_file="{}", deleting=True)
        assert store_file.endpoint_entry(store_file.endpoint_row(endpoint)) == endpoint
    for config in (WorkergroupConfig(), WorkergroupConfig(backend="x", env={"A": "b"}, occupancy=None, max_workers=3)):
        group = WorkergroupEntry(2, 1, config, 1.5, {"search_params": {"a": [1]}}, 3)
        assert store_file.workergroup_entry(store_file.workergroup_row(group)) == group
