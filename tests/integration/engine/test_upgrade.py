"""A state directory through an upgrade, a rollback that is refused, and one that is made as docs/running.md says."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine import store_file
from nullworker.engine.catalog import EndpointEntry, WorkergroupEntry
from nullworker.engine.config import EngineConfig, WorkergroupConfig
from nullworker.engine.server import ServerError
from nullworker.engine.store_file import APPLICATION_ID, MIGRATIONS
from tests.integration.engine.kit import running

if TYPE_CHECKING:
    from pathlib import Path

ENDPOINT = EndpointEntry(5, "from-before", TESTED_PARAMETERS, 1.5)
GROUP = WorkergroupEntry(6, 5, WorkergroupConfig(), 1.5, {})


def settings(state: Path) -> EngineConfig:
    """An engine with no endpoint of its own."""
    return EngineConfig("127.0.0.1", 0, state)


def contents(state: Path) -> dict[str, str]:
    files = [path for path in state.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_older(state: Path, version: int) -> None:
    """Puts a store there as a nullworker of that version would have left it."""
    for file in state.glob("engine.db*"):
        file.unlink()
    with closing(sqlite3.connect(state / "engine.db", isolation_level=None)) as db:
        for script in MIGRATIONS[:version]:
            db.executescript(script)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version}")
        db.execute(store_file.STATEMENTS["endpoints"][0], store_file.endpoint_row(ENDPOINT))
        db.execute(store_file.STATEMENTS["workergroups"][0], store_file.workergroup_row(GROUP))
        db.execute("INSERT INTO usage VALUES (6, 'held', 3600.0)")
    (state / "engine.db").chmod(0o600)


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_a_state_directory_of_an_older_version_is_taken_over(tmp_path: Path, version: int) -> None:
    state = tmp_path / "state"
    async with running(settings(state)) as before:
        key = before.key
    make_older(state, version)
    async with running(settings(state)) as after:
        assert after.key == key
        assert [entry.name for entry in after.server.catalog.endpoints.values()] == ["from-before"]
        assert after.server.usage.by_group(0.0)[6]["held"] == 3600.0
        assert after.server.store.lost == ""
    assert (state / f"engine.db.v{version}").exists()


async def test_a_rollback_is_refused_in_a_sentence_and_made_with_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    async with running(settings(state)):
        """It makes its keys."""
    make_older(state, len(MIGRATIONS))
    with monkeypatch.context() as newer:
        newer.setattr(store_file, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (x);"))
        async with running(settings(state)):
            """The upgrade."""
    upgraded = contents(state)

    with pytest.raises(ServerError) as refused:
        async with running(settings(state)):
            pass
    assert str(refused.value) == (
        f"The store {state}/engine.db was written by a newer nullworker (version {len(MIGRATIONS) + 1} of its tables; "
        f"this one knows {len(MIGRATIONS)}); upgrade nullworker, or bring back the copy of before its upgrade "
        "(docs/running.md)."
    )
    assert contents(state) == upgraded

    (state / f"engine.db.v{len(MIGRATIONS)}").replace(state / "engine.db")
    for log in ("engine.db-wal", "engine.db-shm"):
        (state / log).unlink(missing_ok=True)
    async with running(settings(state)) as back:
        assert [entry.name for entry in back.server.catalog.endpoints.values()] == ["from-before"]
