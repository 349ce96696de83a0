"""``nullworker audit``: what operators did, by which key, when, and why."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import click

from nullworker.cli.asking import ask, engine_options
from nullworker.wire.paths import AUDIT

EPILOG = """\b
Examples:
  nullworker audit
  nullworker audit --tail 1000 --json"""


@click.command("audit", epilog=EPILOG)
@engine_options
@click.option("--tail", type=click.IntRange(1, 1000), default=50, show_default=True, help="Only the last so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(instance: str, api_key: str | None, tail: int, as_json: bool) -> None:
    """Show every act from the page, commands and programs: by which key, when, what, and why."""
    for row in ask(instance, api_key, AUDIT, tail=str(tail))["rows"]:
        print(json.dumps(row) if as_json else line(row), flush=True)


def line(row: dict[str, Any]) -> str:
    """One act as a line."""
    at = dt.datetime.fromtimestamp(row["at_s"], dt.timezone.utc).astimezone()
    values = ", ".join(f"{name} {json.dumps(value)}" for name, value in row["detail"].items())
    text = f"{at:%Y-%m-%d %H:%M:%S}  {row['who']}, {row['via']} {row['remote']}  {row['what']} ({row['subject']})"
    text += f": {values}" if values else ""
    text += f"; because {row['why']}" if row["why"] else ""
    return text if row["outcome"] == "done" else f"{text}; {row['outcome']}"
