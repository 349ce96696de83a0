"""``nullworker extend``: has a worker held for longer than its client asks for."""

from __future__ import annotations

import re

import click

from nullworker.cli.asking import engine_options, tell
from nullworker.wire.paths import EXTEND

EPILOG = """\b
Examples:
  nullworker extend 1048577 2h --reason "its dispatcher is being moved"
  nullworker extend 1048577 90m"""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command("extend", epilog=EPILOG)
@click.argument("request", type=click.IntRange(1))
@click.argument("time", metavar="TIME")
@engine_options
@click.option("--reason", default="", help="Why, for the audit log.")
def command(request: int, time: str, instance: str, api_key: str | None, reason: str) -> None:
    """Have the worker of REQUEST held for TIME (30s, 90m, 2h, 1d) from now on at least, whether its client is there.

    It takes until the worker's next report, ten seconds at most.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", time.strip())
    seconds = float(found[1]) * _UNITS_S[found[2]] if found else 0.0
    if not 0 < seconds <= 30 * _UNITS_S["d"]:
        raise click.BadParameter(f"{time} is no time up to 30 days; give 30s, 90m, 2h or 1d.", param_hint="TIME")
    tell(instance, api_key, EXTEND, {"request_idx": request, "seconds": seconds}, reason)
    print(f"Request {request} is held for {time} from now on at least.")
