"""Writes the table of connections in docs/queues.md, from what the adapters declare.

python -m docs.tools.connection_table
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs.tools import tables
from nullworker.queues import registry

if TYPE_CHECKING:
    from nullworker.queues.connections import Connections

PAGE = tables.ROOT / "docs" / "queues.md"


def declared() -> list[Connections]:
    """What the installed adapters declare; those of one broker share it."""
    kinds = [registry.adapter(f"{scheme}://") for scheme in registry.schemes()]
    found = {kind.CONNECTIONS.broker: kind.CONNECTIONS for kind in kinds if hasattr(kind, "CONNECTIONS")}
    return [found[broker] for broker in sorted(found)]


def rows() -> set[str]:
    """The names of all rows: broker and way."""
    return {f"{connections.broker} {way.name}" for connections in declared() for way in connections.ways}


def _connections() -> list[str]:
    lines = ["| Broker | What | In the URL | Notes |", "| --- | --- | --- | --- |"]
    for connections in declared():
        for way in connections.ways:
            note = f"{way.note} {', '.join(f'`{name}`' for name in way.unused)}".strip()
            lines.append(f"| {connections.broker} | {way.what} | {way.written} | {note} |")
    return lines


def filled(page: str) -> str:
    """The page with its table made again."""
    return tables.filled(page, "connection_table", {"connections": _connections})


if __name__ == "__main__":
    tables.write(PAGE, filled(PAGE.read_text()))
