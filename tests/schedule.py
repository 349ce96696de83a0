"""Which tests share a process, and which begin first, where several processes work through them (``--dist loadgroup``).

What takes seconds of CPU to start is started once, by the only process that needs it. What takes long begins first, so
that no core idles in the end because one process is left with a long test. What computes all the time is spread among
what waits. All else is in shuffled order.

xdist's own groups are not used: with pytest 9.2 its marker ``xdist_group`` has no effect.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
#: What says that a module's tests share something dear: a fixture of the module, or one of these, which modules share.
SHARED = {
    "rabbitmq": re.compile(r"\brabbitmq: Rabbitmq"),
    "postgres": re.compile(r"\bpostgres: Postgres"),
    "real engine": re.compile(r"\bendpoint_name: str"),
}
#: A module's own is as well what it reads once and keeps: the syntax trees of all files.
MODULES_OWN = re.compile(r'scope="module"|^@functools\.cache$', re.MULTILINE)
#: Tests that keep a core busy; most others wait for processes that they started.
BUSY = "tests/simulation/"
#: Here are the tests that take ten seconds or more.
LONG = (
    "tests/e2e/",
    "tests/integration/dispatch/",
    "tests/integration/engine/test_core_failure.py",
    "tests/integration/engine/test_end.py",
    "tests/integration/engine/test_journal.py",
    "tests/integration/engine/test_lost_store.py",
    "tests/integration/engine/test_restart.py",
    "tests/integration/test_classic_page.py",
    "tests/simulation/test_mutation_tool.py",
)


@functools.cache
def group_of(module: str) -> str:
    """The group that a module's tests belong to; empty: each is a group of its own.

    Args:
        module: path of the file, from the root of the repository.
    """
    text = (ROOT / module).read_text()
    for name, pattern in SHARED.items():
        if pattern.search(text):
            return name
    return module if MODULES_OWN.search(text) else ""


def arrange(items: list[pytest.Item]) -> None:
    """Puts the long tests first, and spreads those that keep a core busy evenly among those that wait."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    placed: list[tuple[float, pytest.Item]] = []
    for is_busy in (False, True):
        kind = [item for item in items if item.nodeid.startswith(BUSY) is is_busy]
        placed += [(place / len(kind), item) for place, item in enumerate(kind)]
    placed.sort(key=lambda each: each[0])
    items[:] = [item for _, item in placed]


def scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives a process one group after the other, those of many tests first."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class Groups(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0]) or nodeid

    return Groups(config, log)
