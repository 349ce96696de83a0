"""``nullworker logs``: an endpoint's decisions at one of four levels, as ``vastai get endpt-logs`` shows them."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from nullworker.cli.asking import ask, engine_options
from nullworker.cli.explain import lines
from nullworker.wire.paths import STORY

EPILOG = """\b
Examples:
  nullworker logs null-local
  nullworker logs null-local --level 2 --follow"""

LEVELS = ("info0", "info1", "trace", "debug")
FOLLOW_S = 1.0


@click.command("logs", epilog=EPILOG)
@click.argument("endpoint")
@engine_options
@click.option(
    "--level", type=click.IntRange(0, 3), default=1, show_default=True, help="0 sizes, 1 lives, 2 grants, 3 all."
)
@click.option("--tail", type=click.IntRange(1), default=50, show_default=True, help="Only the last so many.")
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    endpoint: str, instance: str, api_key: str | None, level: int, tail: int, follow: bool, as_json: bool
) -> None:
    """Show what an engine decided about ENDPOINT, and why."""
    seen: tuple[Any, ...] | None = None
    while True:
        answer = ask(instance, api_key, STORY, about=endpoint)
        decisions = [d for d in answer["decisions"] if LEVELS.index(d["level"]) <= level]
        new = decisions[-tail:] if seen is None else _after(decisions, seen)
        for line in map(json.dumps, new) if as_json else lines(new):
            print(line, flush=True)
        if decisions:
            seen = _mark(decisions[-1])
        if not follow:
            return
        time.sleep(FOLLOW_S)


def _mark(decision: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(decision[key] for key in ("at_s", "cause", "kind", "worker_id", "request_idx"))


def _after(decisions: list[dict[str, Any]], seen: tuple[Any, ...]) -> list[dict[str, Any]]:
    marks = [_mark(d) for d in decisions]
    return decisions[marks.index(seen) + 1 :] if seen in marks else decisions
