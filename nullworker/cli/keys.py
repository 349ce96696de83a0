"""``nullworker keys``: keys with a name and a role are made, listed, revoked and rotated."""

from __future__ import annotations

import functools
import json
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from nullworker.cli.asking import ask, engine_options, tell
from nullworker.cli.errors import UserError
from nullworker.wire.paths import KEYS, REVOKE_KEY, ROTATE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

EPILOG = """\b
Roles:
  route    ask for workers, of all endpoints or of those given with --endpoint
  read     see everything but keys, and change nothing; good for signing in on the page
  operate  both, and: drain, replace workers, change endpoints
  admin    everything, as the account key

\b
Examples:
  nullworker keys
  nullworker keys create wallboard --role read
  nullworker keys create ci --role route --endpoint gpu --expires 90d
  nullworker keys rotate ci --overlap 1d
  nullworker keys revoke ci
  nullworker keys rotate --account"""

_UNITS_S = {"m": 60, "h": 3_600, "d": 86_400}


def _seconds(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """A duration with its unit, in seconds."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", value)
    if found is None and value != "0":
        raise click.BadParameter(f"{value} is no duration; write 30m, 12h or 90d.", context, parameter)
    return 0.0 if found is None else float(found[1]) * _UNITS_S[found[2]]


class _Engine(NamedTuple):
    """Which engine, and with which key."""

    instance: str
    api_key: str | None


def _of_engine(function: Callable[..., None]) -> Any:
    """A subcommand, which takes the options that say which engine as the command before it does."""

    def call(context: click.Context, /, instance: str | None, api_key: str | None, **values: Any) -> None:
        engine: _Engine = context.obj
        function(_Engine(instance or engine.instance, api_key or engine.api_key), **values)

    functools.update_wrapper(call, function)
    asked = click.pass_context(call)
    for name, metavar in (("--instance", "local|URL"), ("--api-key", "TEXT")):
        asked = click.option(name, metavar=metavar, help="As before the subcommand.")(asked)
    return asked


_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
_REASON = click.option("--reason", default="", metavar="TEXT", help="Why, for the engine's audit log.")


@click.group("keys", epilog=EPILOG, invoke_without_command=True)
@engine_options
@_AS_JSON
@click.pass_context
def command(context: click.Context, instance: str, api_key: str | None, as_json: bool) -> None:
    """List an engine's keys; make, revoke and rotate them with what follows."""
    context.obj = _Engine(instance, api_key)
    if context.invoked_subcommand is not None:
        return
    keys = ask(instance, api_key, KEYS)["keys"]
    if as_json:
        print(json.dumps(keys))
    elif not keys:
        print("There is no key but the account key; nullworker keys create makes one.")
    else:
        _print(keys)


def _print(keys: list[dict[str, Any]]) -> None:
    rows = [["key", "name", "role", "for", "made", "used", "ends"], *map(_cells, keys)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(key: dict[str, Any]) -> list[str]:
    ends = "never"
    if not key["is_good"]:
        ends = f"ended {_day(key['expires_at_s'])}"
    elif key["expires_at_s"]:
        ends = _day(key["expires_at_s"])
    used = _day(key["used_at_s"]) if key["used_at_s"] else "not since the start"
    covers = ", ".join(key["endpoints"]) or "all endpoints"
    return [str(key["id"]), key["name"], key["role"], covers, _day(key["created_at_s"]), used, ends]


def _day(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at_s))


@command.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(["route", "read", "operate", "admin"]), help="What it may do.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="NAME", help="Of role route: for this one; repeatable.")
@click.option(
    "--expires", "expires_in_s", callback=_seconds, default="0", metavar="90d", help="When it ends; else never."
)
@_REASON
@_AS_JSON
@_of_engine
def create(
    engine: _Engine,
    name: str,
    role: str,
    endpoints: tuple[str, ...],
    expires_in_s: float,
    reason: str,
    as_json: bool,
) -> None:
    """Make a key called NAME, and print it. It is shown this once."""
    body = {"name": name, "role": role, "endpoints": list(endpoints), "expires_in_s": expires_in_s}
    _show(tell(*engine, KEYS, body, reason), as_json)


@command.command()
@click.argument("name")
@_REASON
@_of_engine
def revoke(engine: _Engine, name: str, reason: str) -> None:
    """End the key called NAME, or with that number, at once."""
    key_id = _find(engine, name)
    tell(*engine, REVOKE_KEY, {"id": key_id}, reason)
    print(f"Key {key_id} has ended.")


@command.command()
@click.argument("name", required=False)
@click.option("--endpoint", metavar="NAME", help="Instead: the own key of this endpoint.")
@click.option(
    "--account", is_flag=True, help="Instead: the account key. Its file is replaced; all pages are signed out."
)
@click.option(
    "--overlap",
    "overlap_s",
    callback=_seconds,
    default="1h",
    show_default=True,
    help="For how long the old one is good.",
)
@_REASON
@_AS_JSON
@_of_engine
def rotate(
    engine: _Engine,
    name: str | None,
    endpoint: str | None,
    account: bool,
    overlap_s: float,
    reason: str,
    as_json: bool,
) -> None:
    """Have another key take the place of the one called NAME, and print it; the old one ends after --overlap."""
    if [name is not None, endpoint is not None, account].count(True) != 1:
        raise UserError("Give one: the name of a key, --endpoint NAME, or --account.")
    body: dict[str, Any] = {"overlap_s": overlap_s}
    if name is not None:
        body["id"] = _find(engine, name)
    elif endpoint is not None:
        body["endpoint"] = endpoint
    else:
        body["account"] = True
    _show(tell(*engine, ROTATE_KEY, body, reason), as_json)


def _show(made: dict[str, Any], as_json: bool) -> None:
    print(json.dumps({"id": made["id"], "api_key": made["api_key"]}) if as_json else made["api_key"])


def _find(engine: _Engine, name: str) -> int:
    """The number of the key that is called ``name``, or that has that number."""
    keys = [key for key in ask(*engine, KEYS)["keys"] if key["is_good"] and name in (key["name"], str(key["id"]))]
    if not keys:
        raise UserError(f"There is no key called {name} that is good; nullworker keys lists them.")
    if len(keys) > 1:
        numbers = ", ".join(str(key["id"]) for key in keys)
        raise UserError(f"{len(keys)} keys are called {name}; say which by its number ({numbers}).")
    found: int = keys[0]["id"]
    return found
