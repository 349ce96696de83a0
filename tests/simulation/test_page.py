"""The page about the simulator says what is there."""

from __future__ import annotations

from docs.tools.simulation_figures import PAGE, filled


def test_the_tables_of_the_page_are_those_of_the_source_and_the_records() -> None:
    assert filled(PAGE.read_text()) == PAGE.read_text(), "run python -m docs.tools.simulation_figures"
