"""Tables of a page that a program makes: they stand between two marks, and are replaced between them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).resolve().parents[2]


def filled(page: str, tool: str, tables: Mapping[str, Callable[[], list[str]]]) -> str:
    """The page with every table of ``tables`` (its name -> what makes its lines) made again by ``tool``."""
    for name, make in tables.items():
        first = f"<!-- {name}: made by docs/tools/{tool}.py -->\n"
        made = first + "\n".join(make()) + "\n<!-- end -->"
        pattern = re.compile(re.escape(first) + ".*?<!-- end -->", re.DOTALL)
        found = pattern.findall(page)
        assert len(found) == 1, f"the page has {len(found)} places for the table {name}"
        page = page.replace(found[0], made)
    return page


def write(page: Path, text: str) -> None:
    """Writes the page and says so."""
    page.write_text(text)
    print(f"wrote {page.relative_to(ROOT)}")
