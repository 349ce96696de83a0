"""The table of connections in docs/queues.md is as the adapters declare it, and each of its rows has its test."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docs.tools.connection_table import PAGE, declared, filled, rows

if TYPE_CHECKING:
    from nullworker.queues.connections import Connections

TESTS = Path(__file__).parents[2] / "integration" / "queues"


def test_the_page_is_as_the_adapters_declare_it() -> None:
    assert filled(PAGE.read_text()) == PAGE.read_text(), "run python -m docs.tools.connection_table"


def test_each_row_has_its_test() -> None:
    """By its mark, ``@pytest.mark.connection("Redis sentinel")``; no mark is for a row that is not there."""
    shown = {
        argument.value
        for path in TESTS.glob("test_connections_*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "connection"
        for argument in call.args
        if isinstance(argument, ast.Constant)
    }
    assert len(shown) > 5
    assert shown == rows()


@pytest.mark.parametrize("connections", declared(), ids=lambda connections: connections.broker)
def test_a_name_has_one_meaning(connections: Connections) -> None:
    declared_ways = connections.ways
    names = [name for way in declared_ways for name in (*way.parameters, *way.also, *way.unused)]
    assert sorted(names) == sorted(set(names))
    transports = [transport for way in declared_ways for transport in way.transports]
    assert sorted(transports) == sorted(set(transports))
    assert len({way.name for way in declared_ways}) == len(declared_ways)
