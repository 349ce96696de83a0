"""``nullworker keys``: the key that sees everything and changes nothing."""

from __future__ import annotations

import json

import click

from nullworker.cli.asking import ask, engine_options
from nullworker.wire.paths import READ_ONLY_KEY

EPILOG = """\b
Examples:
  nullworker keys
  nullworker keys --json"""


@click.command("keys", epilog=EPILOG)
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(instance: str, api_key: str | None, as_json: bool) -> None:
    """Print an engine's read-only key: it signs in on the page, is good for status and explain, and changes nothing."""
    key = ask(instance, api_key, READ_ONLY_KEY)["api_key"]
    print(json.dumps({"read_only_key": key}) if as_json else key)
