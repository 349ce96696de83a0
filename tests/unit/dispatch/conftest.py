"""A harness for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.dispatch.harness import DispatchHarness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[DispatchHarness]:
    harness = DispatchHarness(tmp_path / "dispatch.db")
    yield harness
    harness.store.close()
