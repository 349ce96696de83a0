"""A stage for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.dispatch.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "dispatch.db")
    yield stage
    stage.ledger.close()
