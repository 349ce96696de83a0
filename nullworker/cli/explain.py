"""``nullworker explain``: why an endpoint, a worker or a request is as it is, and the story behind it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import click

from nullworker.cli.asking import ask, engine_options

EPILOG = """\b
Examples:
  nullworker explain null-local
  nullworker explain worker 3
  nullworker explain request 17 --json
  nullworker explain engine"""


@click.command("explain", epilog=EPILOG)
@click.argument("about", nargs=-1, required=True, metavar="ENDPOINT | worker ID | request ID | engine")
@engine_options
@click.option("--tail", type=click.IntRange(0), default=50, show_default=True, help="Only the last so many decisions.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(about: tuple[str, ...], instance: str, api_key: str | None, tail: int, as_json: bool) -> None:
    """Say in a sentence why an endpoint, a worker or a request is as it is; then, how it came to be so."""
    answer = ask(instance, api_key, "/api/v0/story/", about=" ".join(about))
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    print(answer["answer"])
    decisions = answer["decisions"]
    shown = decisions[max(0, len(decisions) - tail) :]
    if shown:
        print()
    for decision in shown:
        print(line(decision))


def line(decision: dict[str, Any]) -> str:
    at = dt.datetime.fromtimestamp(decision["at_s"], dt.timezone.utc).astimezone()
    whom = " ".join(
        f"{word} {decision[key]}"
        for word, key in (("worker", "worker_id"), ("request", "request_idx"))
        if decision[key]
    )
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {decision['kind']:<22}{whom:<24}{decision['reason']}"
