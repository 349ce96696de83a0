"""The page about the simulator says what is there."""

from __future__ import annotations

from docs.tools import exhaustive_figures
from docs.tools.simulation_figures import PAGE, filled


def test_the_tables_of_the_page_are_those_of_the_source_and_the_records() -> None:
    assert filled(PAGE.read_text()) == PAGE.read_text(), "run python -m docs.tools.simulation_figures"


def test_the_tables_of_the_page_about_small_worlds_too() -> None:
    assert exhaustive_figures.filled(exhaustive_figures.PAGE.read_text()) == exhaustive_figures.PAGE.read_text(), (
        "run python -m docs.tools.exhaustive_figures"
    )
