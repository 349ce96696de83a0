"""The demo client's flags, each said once, for ``python -m workers.null.client`` and for ``nullworker reserve``."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nullworker.client.errors import InstanceInvalidError
from nullworker.client.instances import find_instance

if TYPE_CHECKING:
    from collections.abc import Callable

DESCRIPTION = "Reserve workers of an endpoint, hold them for a while, and give them back."
EXAMPLES = """\
Examples:
  one worker for three minutes:
    {prog} --endpoint my-endpoint
  three workers, asked for half a minute apart, each held for six minutes:
    {prog} --endpoint my-endpoint --count 3 --hold 360
  five at once from an engine on this machine, as JSON lines:
    {prog} --endpoint null-local --instance local --count 5 --interval 0 --hold 10 --json

The API key is read from VAST_API_KEY; for an engine on this machine, from its state directory, too.
Ctrl-C gives all workers back; a second one exits at once.
"""


def _count(text: str) -> int:
    number = int(text) if text.strip().isdecimal() else 0
    if not 1 <= number <= 10_000:
        raise ValueError(f"{text!r} is no whole number from 1 to 10000")
    return number


def _seconds(text: str) -> float:
    return _number(text, zero=True, what="number of seconds, 0 or more")


def _positive(text: str) -> float:
    return _number(text, zero=False, what="number over 0")


def _number(text: str, *, zero: bool, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (0 <= number < math.inf) or (number == 0 and not zero):
        raise ValueError(f"{text!r} is no {what}")
    return number


def _instance(text: str) -> str:
    try:
        find_instance(text)
    except InstanceInvalidError as error:
        raise ValueError(str(error)) from None
    return text


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError("the name is empty")
    return text


@dataclass(frozen=True)
class Flag:
    """One flag. ``parse`` makes its value of a text, or raises ValueError with what is wrong; None: it takes none.
    ``default`` is a text, too; None: not given.
    """

    name: str
    help: str
    parse: Callable[[str], Any] | None = None
    metavar: str = ""
    default: str | None = None
    required: bool = False


FLAGS = (
    Flag("endpoint", "name of the endpoint", _name, "NAME", required=True),
    Flag("count", "how many reservations", _count, "N", "1"),
    Flag("hold", "seconds to hold each, from when its worker is there", _seconds, "S", "180"),
    Flag("interval", "seconds between the starts of two", _seconds, "S", "30"),
    Flag("cost", "what each takes of the endpoint's capacity; a null worker has 100", _positive, "C", "100"),
    Flag("instance", "prod, alpha, candidate, local, or an engine's URL", _instance, "WHICH", "prod"),
    Flag("deadline", "give up when a worker has not come after so many seconds (default: wait)", _positive, "S"),
    Flag("json", "print one JSON object per event"),
)


@dataclass(frozen=True)
class Options:
    """The flags' values."""

    endpoint: str
    count: int
    hold: float
    interval: float
    cost: float
    instance: str
    deadline: float | None
    json: bool


def build_parser(prog: str) -> argparse.ArgumentParser:
    """The flags for ``argparse``."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=DESCRIPTION,
        epilog=EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag in FLAGS:
        if flag.parse is None:
            parser.add_argument(f"--{flag.name}", action="store_true", help=flag.help)
            continue
        shown = "" if flag.default is None else f" (default: {flag.default})"
        parser.add_argument(
            f"--{flag.name}",
            type=_for_argparse(flag.parse),
            metavar=flag.metavar,
            default=flag.default,
            required=flag.required,
            help=flag.help + shown,
        )
    return parser


def _for_argparse(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse_or_complain(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_or_complain
