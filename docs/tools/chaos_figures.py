"""Writes the table of docs/chaos.md: the kinds of fault, and how many episodes of each were run and broke a promise.

python -m docs.tools.chaos_figures
"""

from __future__ import annotations

from docs.tools import tables
from tools.chaos.faults import KINDS
from tools.chaos.record import Record

PAGE = tables.ROOT / "docs" / "chaos.md"


def episodes() -> list[str]:
    """A row for each kind, and the sums."""
    record = Record().read()
    rows = [
        f"| Kind | What is done | Episodes on the code {record['code'] or 'as it is'} | Broken | Seconds each |",
        "| --- | --- | --- | --- | --- |",
    ]
    nothing = {"episodes": 0, "broken": 0, "seconds": 0.0}
    sums = [0, 0, 0.0]
    for name, kind in KINDS.items():
        row = record["kinds"].get(name, nothing)
        mean_s = f"{row['seconds'] / row['episodes']:.0f}" if row["episodes"] else ""
        rows.append(f"| `{name}` | {kind.about} | {row['episodes']} | {row['broken']} | {mean_s} |")
        sums = [sums[0] + row["episodes"], sums[1] + row["broken"], sums[2] + row["seconds"]]
    mean_s = f"{sums[2] / max(1, sums[0]):.0f}"
    since = record["since"] or "never"
    return [
        *rows,
        f"| **{len(KINDS)} kinds** | since {since} | **{sums[0]}** | **{sums[1]}** | {mean_s} |",
        f"| on all versions | | {record['episodes']} | {record['broken']} | |",
    ]


TABLES = {"episodes": episodes}


def filled(page: str) -> str:
    """The page with its table made again."""
    return tables.filled(page, "chaos_figures", TABLES)


def write() -> None:
    """Makes the page's table again."""
    tables.write(PAGE, filled(PAGE.read_text()))


if __name__ == "__main__":
    write()
