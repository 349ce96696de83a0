"""``nullworker reserve``, which is ``python -m workers.null.client``, too: reservations that are started some seconds
apart, held for a while and given back. The flags are here; ``run`` does it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from nullworker.client.errors import InstanceInvalidError
from nullworker.client.instances import find_instance

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = """\
Examples:
  one worker for three minutes:
    {prog} --endpoint my-endpoint
  three workers, asked for half a minute apart, each held for six minutes:
    {prog} --endpoint my-endpoint --count 3 --hold 360
  five at once from an engine on this machine, as JSON lines:
    {prog} --endpoint null-local --instance local --count 5 --interval 0 --hold 10 --json
  one with what its consumer is to do, which it finds in NULL_PAYLOAD:
    {prog} --endpoint my-endpoint --payload '{{"job": 17}}'

The API key is read from VAST_API_KEY, else from the file in which the engine on this machine, or the vastai command
line, keeps it. Ctrl-C gives all workers back; a second one exits at once.
"""


@dataclass(frozen=True)
class Options:
    """The flags' values. Times are in seconds."""

    endpoint: str
    count: int
    hold: float
    interval: float
    cost: float
    instance: str
    deadline: float | None
    payload: dict[str, Any] | None
    json: bool


class _Reserve(click.Command):
    """Its examples name it as it was called."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples."""
        prog = ctx.command_path if ctx.parent is None else f"nullworker {ctx.info_name}"
        formatter.write_paragraph()
        for line in EXAMPLES.format(prog=prog).splitlines():
            formatter.write(f"{line}\n")


def _number(what: str, *, zero: bool) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """Reads a finite number, 0 only where that makes sense."""

    def read(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
        if text is None:
            return None
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not (0 <= number < math.inf) or (number == 0 and not zero):
            raise click.BadParameter(f"{text!r} is no {what}", ctx, parameter)
        return number

    return read


def _instance(ctx: click.Context, parameter: click.Parameter, text: str | None) -> str:
    if text is None:  # as a module of its own it is Vast's null worker's client, as a command it is for an engine here
        return "prod" if ctx.parent is None else "local"
    try:
        find_instance(text)
    except InstanceInvalidError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None
    return text


def _payload(ctx: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        payload = json.loads(text)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise click.BadParameter(f"{text!r} is no JSON object, as in '{{\"job\": 17}}'", ctx, parameter)
    return payload


def _name(ctx: click.Context, parameter: click.Parameter, text: str) -> str:
    if not text.strip():
        raise click.BadParameter("the name is empty", ctx, parameter)
    return text


_SECONDS = _number("number of seconds, 0 or more", zero=True)
_POSITIVE = _number("number over 0", zero=False)


@click.command("reserve", cls=_Reserve, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--endpoint", callback=_name, metavar="NAME", required=True, help="Name of the endpoint.")
@click.option(
    "--count", type=click.IntRange(1, 10_000), metavar="N", default=1, show_default=True, help="How many reservations."
)
@click.option(
    "--hold", callback=_SECONDS, metavar="S", default="180", show_default=True,
    help="Seconds to hold each, from when its worker is there.",
)  # fmt: skip
@click.option(
    "--interval", callback=_SECONDS, metavar="S", default="30", show_default=True,
    help="Seconds between the starts of two.",
)  # fmt: skip
@click.option(
    "--cost", callback=_POSITIVE, metavar="C", default="100", show_default=True,
    help="What each takes of the endpoint's capacity; a null worker has 100.",
)  # fmt: skip
@click.option(
    "--instance", callback=_instance, metavar="WHICH",
    help="prod, alpha, candidate, local, or an engine's URL  [default: local; prod for python -m workers.null.client]",
)  # fmt: skip
@click.option(
    "--deadline", callback=_POSITIVE, metavar="S",
    help="Give up when a worker has not come after so many seconds (default: wait).",
)  # fmt: skip
@click.option("--payload", callback=_payload, metavar="JSON", help="An object that consumers find in NULL_PAYLOAD.")
@click.option("--json", is_flag=True, help="Print one JSON object per event.")
def command(**values: Any) -> int:
    """Reserve workers of an endpoint, hold them for a while, and give them back."""
    from nullworker.cli.reserve.run import run

    return run(Options(**values))
