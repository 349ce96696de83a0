"""The page on choosing parameters: its commands run, and print what it shows."""

from __future__ import annotations

import pytest

from docs.tools.outputs import ROOT, blocks, refreshed

BLOCKS = blocks((ROOT / "docs" / "choosing-parameters.md").read_text())


def test_the_page_shows_commands() -> None:
    assert len(BLOCKS) >= 6


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[1].partition("simulate ")[2])
def test_the_page_shows_what_its_commands_print(block: str) -> None:
    assert refreshed(block) == block
