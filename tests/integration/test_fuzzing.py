"""No request that is made of a schema gets a 5xx from a worker or a classic backend; the engine's are in `engine`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.fuzz_targets import fuzz_classic, fuzz_worker

if TYPE_CHECKING:
    from pathlib import Path

#: Of each operation, with `make test-long`.
MANY = int(os.environ.get("NULLWORKER_FUZZ", "300"))
EXAMPLES = pytest.mark.parametrize(
    "examples", [6, pytest.param(MANY, marks=[pytest.mark.long, pytest.mark.timeout(7_200)])]
)


@EXAMPLES
async def test_no_schema_made_request_gets_a_500_from_a_worker(tmp_path: Path, examples: int) -> None:
    found = await fuzz_worker(tmp_path, examples=examples)
    assert found.server_errors == 0, found.failures
    assert found.statuses[200] + found.statuses[201] > 0, "some are right"
    assert found.requests >= 60


@EXAMPLES
async def test_no_schema_made_request_gets_a_500_from_a_classic_backend(tmp_path: Path, examples: int) -> None:
    found = await fuzz_classic(tmp_path, examples=examples)
    assert found.server_errors == 0, found.failures
    assert found.statuses[200] > 0, "some are right"
    assert found.requests >= 25
