"""The page on choosing parameters: its commands run, and print what it shows."""

from __future__ import annotations

import pytest

from docs.tools.outputs import ROOT, blocks, refreshed

BLOCKS = blocks((ROOT / "docs" / "choosing-parameters.md").read_text())
#: Ten seconds of CPU; the page compares on a trace as well, in three.
SLOW = "--compare --workload requests"


def test_the_page_shows_commands() -> None:
    assert len(BLOCKS) >= 6


def _arguments(block: str) -> str:
    return block.splitlines()[1].partition("simulate ")[2]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=_arguments(block), marks=[pytest.mark.long] if _arguments(block) == SLOW else [])
        for block in BLOCKS
    ],
)
def test_the_page_shows_what_its_commands_print(block: str) -> None:
    assert refreshed(block) == block
