"""``nullworker bench``: measures what the README says, on this machine."""

from __future__ import annotations

import asyncio
import importlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import click

from nullworker.cli.errors import UserError

EPILOG = """\b
Examples:
  nullworker bench
  nullworker bench warm hand-over --json

Each figure stands beside its baseline from the same run; machines differ, ratios less so."""

#: The modules of bench/ that have a table BENCHMARKS of name -> function, and some a table BY_NAME_ALONE of
#: those that take too long to be run unless they are named.
MODULES = ("reservations", "core", "http", "dispatch", "scale", "page", "metrics", "attackers", "ray")


@click.command("bench", epilog=EPILOG)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--list", "only_list", is_flag=True, help="Say which benchmarks there are.")
def command(names: tuple[str, ...], as_json: bool, only_list: bool) -> int:
    """Measure reservations, the core, the HTTP path and the dispatcher; all of them, or those named.

    A few take many minutes and are run only if they are named; --list says which.

    The exit code is 1 when a figure misses what is wanted of it.
    """
    usual, by_name_alone = _find("BENCHMARKS"), _find("BY_NAME_ALONE")
    benchmarks = {**usual, **by_name_alone}
    if only_list:
        print("\n".join([*usual, *(f"{name} (run only if named)" for name in by_name_alone)]))
        return 0
    unknown = [name for name in names if name not in benchmarks]
    if unknown:
        raise click.BadParameter(f"there is no benchmark {unknown[0]}; there are {', '.join(benchmarks)}")
    importlib.import_module("bench.interrupt").install()
    results = []
    for name in names or usual:
        if not as_json:
            print(f"{name} …", end="", flush=True, file=sys.stderr)
        measured = benchmarks[
            name
        ]()  # those without an event loop are plain functions, so that Ctrl-C ends them at once
        result = asyncio.run(measured) if asyncio.iscoroutine(measured) else measured
        results.append(result)
        if not as_json:
            print("\r", end="", file=sys.stderr)
            _show(result)
    if as_json:
        on = {"machine": platform.machine(), "python": platform.python_version(), "system": platform.platform()}
        print(json.dumps({"on": on, "results": results}, indent=2))
    return 0 if all(result.get("met", True) for result in results) else 1


def _find(table: str) -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    if not (root / "bench" / "__init__.py").is_file():
        raise UserError("The benchmarks are in the repository's folder bench/; run this from a clone.")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    found: dict[str, Any] = {}
    for module in MODULES:
        if (root / "bench" / f"{module}.py").is_file():
            found.update(getattr(importlib.import_module(f"bench.{module}"), table, {}))
    return found


def _show(result: dict[str, Any]) -> None:
    print(f"{result['name']}: {'met' if result.get('met', True) else 'MISSED'} ({result.get('wanted', 'no bound')})")
    for key, value in result.items():
        if key not in ("name", "wanted", "met"):
            print(f"    {key:32}{f'{value:.3f}' if isinstance(value, float) else value}")
