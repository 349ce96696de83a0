"""A full disk and a kill: no endpoint gets another's id, and with that its key. S14."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nullworker.engine.catalog import Catalog
from nullworker.engine.store import Store
from nullworker.wire.errors import UnwritableError
from nullworker.wire.types import EndpointBody

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.core.events import Event


def catalog(store: Store) -> Catalog:
    events: list[Event] = []
    made = Catalog(events.append, lambda: 1.0, store)
    loaded = store.load()
    made.restore(loaded.endpoints, loaded.workergroups, loaded.next_id)
    return made


def test_no_id_is_used_twice_whatever_was_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "engine.db"
    used = set()
    for life in range(3):
        with closing(Store.open(path)) as store:
            made = catalog(store)
            used.add(made.create_endpoint(EndpointBody(endpoint_name=f"kept-{life}")).endpoint_id)
            # From now on nothing that is left for later is written, as if a kill came before it.
            monkeypatch.setattr(store._writer, "leave", lambda *_: None)
            used.add(made.create_endpoint(EndpointBody(endpoint_name=f"lost-{life}")).endpoint_id)
    assert len(used) == 6


def test_with_a_full_disk_nothing_is_made_and_the_answer_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store.open(tmp_path / "engine.db")) as store:
        made = catalog(store)
        monkeypatch.setattr(store._writer, "_write", lambda _batch: False)
        monkeypatch.setattr(store._writer, "error", "database or disk is full")
        with pytest.raises(UnwritableError, match="nothing was made"):
            made.create_endpoint(EndpointBody(endpoint_name="more"))
        assert not made.endpoints
        assert made.next_id == 1
        monkeypatch.undo()
        assert made.create_endpoint(EndpointBody(endpoint_name="more")).endpoint_id == 1
