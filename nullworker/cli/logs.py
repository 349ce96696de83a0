"""``nullworker logs``: what consumers printed, and an endpoint's decisions as ``vastai get endpt-logs`` shows them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nullworker.cli.asking import ask, engine_options
from nullworker.cli.errors import UserError
from nullworker.cli.explain import lines
from nullworker.wire.paths import STORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

EPILOG = """\b
Examples:
  nullworker logs worker 7
  nullworker logs -f worker 7
  nullworker logs request 1833208
  nullworker logs payload '"job": 17'
  nullworker logs job 4f5c6e1e
  nullworker logs null-local --level 2 --follow

A job of a queue is found by its id, or by any other text of it, where the consumer prints that.

What consumers printed is read from the logs of the engine on this machine; of a worker on another one, the engine
fetches the end of its log. Where a log grew too long, a line says how much of it was cut."""

CONSUMERS = ("worker", "request", "payload", "job")

LEVELS = ("info0", "info1", "trace", "debug")
FOLLOW_S = 1.0
DECISIONS_TAIL = 50


@click.command("logs", epilog=EPILOG)
@click.argument("about", nargs=-1, required=True, metavar="worker ID | request ID | payload TEXT | job TEXT | ENDPOINT")
@engine_options
@click.option(
    "--level", type=click.IntRange(0, 3), default=1, show_default=True, help="0 sizes, 1 lives, 2 grants, 3 all."
)
@click.option("--tail", type=click.IntRange(1), help="Only the last so many lines  [default: 50 of decisions]")
@click.option("--follow", "-f", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="The engine's state directory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    about: tuple[str, ...],
    instance: str,
    api_key: str | None,
    level: int,
    tail: int | None,
    follow: bool,
    state: Path | None,
    as_json: bool,
) -> None:
    """Show what consumers printed, by worker, request, payload or job; or what an engine decided about ENDPOINT."""
    if len(about) == 1:
        _decisions(about[0], instance, api_key, level, tail or DECISIONS_TAIL, follow=follow, as_json=as_json)
        return
    if len(about) != 2 or about[0] not in CONSUMERS:
        raise click.UsageError("Give worker ID, request ID, payload TEXT, job TEXT, or the name of an endpoint.")
    what, which = about
    if what in {"worker", "request"} and not which.isdecimal():
        raise click.UsageError(f"{which} is not the number of a {what}.")
    if follow and what != "worker":
        raise click.UsageError("--follow is for a worker or an endpoint.")
    from nullworker.client.instances import state_directory

    lines: Iterable[str]
    try:
        lines = _consumers(what, which, state or state_directory(), follow=follow)
    except UserError:
        lines = _from_engine(instance, api_key, int(which)) if what == "worker" and state is None else ()
        if not lines:
            raise
    if tail is not None and not follow:
        lines = list(lines)[-tail:]
    for line in lines:
        print(json.dumps({"line": line}) if as_json else line, flush=True)


def _consumers(what: str, which: str, state: Path, *, follow: bool) -> Iterable[str]:
    """The lines that are asked for.

    Raises:
        UserError: there are none.
    """
    from nullworker.cli import consumer_output as output

    if what == "worker":
        number = int(which)
        if follow:
            return output.printed(output.follow(state, number))
        files = output.logs_of(state, number)
        if not files:
            raise output.no_log(state, number)
        return output.printed(output.lines_of(files))
    is_wanted: dict[str, Callable[[output.Run], bool]] = {
        "request": lambda run: run.request == which,
        "payload": lambda run: which in run.payload,
        "job": lambda run: run.names(which),
    }
    found: list[str] = []
    for file in output.all_logs(state):
        for run in filter(is_wanted[what], output.runs(output.lines_of([file]))):
            found += run.lines
    if not found:
        raise UserError(f"No log under {state} has a consumer that ran for the {what} {which}.")
    return found


def _from_engine(instance: str, api_key: str | None, worker_id: int) -> Sequence[str]:
    """The end of a worker's log as its fleet has it, for one that is on another machine; empty where there is none."""
    from nullworker.cli import consumer_output as output
    from nullworker.cli.asking import ask_view
    from nullworker.client.errors import ClientError
    from nullworker.views.types import WorkerStory

    try:
        log = ask_view(instance, api_key, WorkerStory, "worker", id=str(worker_id)).log
        return list(output.printed(log)) or log
    except (UserError, ClientError):
        return ()  # that there is no log here is the more useful answer


def _decisions(
    endpoint: str, instance: str, api_key: str | None, level: int, tail: int, *, follow: bool, as_json: bool
) -> None:
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
