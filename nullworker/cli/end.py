"""``nullworker end``: ends a request that waits, or gives back the worker that it holds."""

from __future__ import annotations

import click

from nullworker.cli.asking import engine_options, tell
from nullworker.wire.paths import WITHDRAW

EPILOG = """\b
Examples:
  nullworker end 1048577 --reason "its job hangs"

The consumer of a held one is ended as if its client had given the worker back."""


@click.command("end", epilog=EPILOG)
@click.argument("request", type=click.IntRange(1))
@engine_options
@click.option("--reason", default="", help="Why, for the audit log.")
def command(request: int, instance: str, api_key: str | None, reason: str) -> None:
    """End REQUEST: one that waits loses its place, one that is held gives its worker back.

    A held one takes until its worker's next report, ten seconds at most.
    """
    tell(instance, api_key, WITHDRAW, {"request_idx": request}, reason)
    print(f"Request {request} is ended.")
