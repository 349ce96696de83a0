"""How tests are given to processes: what shares a broker or an engine is together, and what is named is there."""

from __future__ import annotations

import pytest

from tests.schedule import BUSY, LONG, ROOT, group_of


@pytest.mark.parametrize(
    ("module", "group"),
    [
        ("tests/integration/queues/test_rabbitmq.py", "rabbitmq"),
        ("tests/integration/dispatch/test_rabbitmq.py", "rabbitmq"),
        ("tests/integration/queues/test_pgboss.py", "postgres"),
        ("tests/integration/client/test_client_any_engine.py", "real engine"),
        ("tests/integration/client/test_client_command.py", "real engine"),
        ("tests/integration/engine/test_vast_cli.py", "tests/integration/engine/test_vast_cli.py"),
        ("tests/test_tidy.py", "tests/test_tidy.py"),
        ("tests/integration/engine/test_restart.py", ""),
    ],
)
def test_what_is_dear_to_start_is_started_once(module: str, group: str) -> None:
    assert group_of(module) == group


def test_what_is_named_is_there() -> None:
    assert [name for name in (*LONG, BUSY) if not (ROOT / name).exists()] == []
