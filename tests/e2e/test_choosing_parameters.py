"""The page on choosing parameters: its commands run, and print what it shows."""

from __future__ import annotations

from docs.tools.outputs import ROOT, refreshed


def test_the_page_shows_what_its_commands_print() -> None:
    text = (ROOT / "docs" / "choosing-parameters.md").read_text()
    assert text.count("$ nullworker simulate") >= 6
    assert refreshed(text) == text
