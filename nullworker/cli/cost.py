"""``nullworker cost``: what workers cost, and what for; as the page shows it."""

from __future__ import annotations

import csv
import datetime as dt
import json
import sys
from typing import TYPE_CHECKING

import click

from nullworker.cli.asking import ask_view, engine_options
from nullworker.cli.times import moment

if TYPE_CHECKING:
    from nullworker.views.types import Costs

EPILOG = """\b
Examples:
  nullworker cost
  nullworker cost --by job --since -1d
  nullworker cost --by queue --since 2026-11-01 --csv > november.csv
  nullworker cost --by day --json

An hour that --since lies in counts as a whole. Rows sum up to the whole exactly; docs/cost.md has the formula."""

_COLUMNS = ("held", "boot", "idle", "other", "storage", "total")


@click.command("cost", epilog=EPILOG)
@engine_options
@click.option(
    "--by",
    type=click.Choice(["endpoint", "queue", "job", "day", "worker"]),
    default="endpoint",
    show_default=True,
    help="What is in a row.",
)
@click.option("--since", metavar="TIME", help="Since a time: 14:05, 2026-11-01, or -7d  [default: the beginning]")
@click.option("--endpoint", default="", metavar="NAME", help="Of this endpoint alone.")
@click.option("--csv", "as_csv", is_flag=True, help="Print it as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(
    instance: str, api_key: str | None, by: str, since: str | None, endpoint: str, as_csv: bool, as_json: bool
) -> None:
    """Show what workers cost: held for jobs, coming up, free, and storage."""
    import msgspec

    from nullworker.views.types import Costs

    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    query = {"by": by} | ({"endpoint": endpoint} if endpoint else {})
    if since is not None:
        query["since"] = f"{max(0.0, moment(since, dt.datetime.now().astimezone(), '--since').timestamp()):.3f}"
    view = ask_view(instance, api_key, Costs, "cost", **query)
    if as_json:
        print(json.dumps(msgspec.to_builtins(view), indent=2))
    elif as_csv:
        _print_csv(view)
    else:
        _show(view)


def _print_csv(view: Costs) -> None:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow([view.by, "worker_s", "held_s", *_COLUMNS])
    for row in view.rows:
        rows.writerow([row.name, f"{row.worker_s:.6f}", f"{row.held_s:.6f}", *(getattr(row, c) for c in _COLUMNS)])


def _show(view: Costs) -> None:
    from rich.markup import escape
    from rich.table import Table

    from nullworker.cli.printing import console_of_lines
    from nullworker.views.text import clock, duration

    console = console_of_lines()
    if view.ground:
        console.print(escape(view.ground))
    table = Table(view.by, "worker time", box=None, padding=(0, 2))
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for row in (*view.rows, view.whole):
        values = (getattr(row, column) for column in _COLUMNS)
        table.add_row(escape(row.name), duration(row.worker_s), *values, style="bold" if row is view.whole else None)
    console.print(table)
    since = f"Since {clock(view.since_s)}. " if view.since_s else ""
    console.print(f"{since}The workers of this moment cost {view.per_hour} an hour.")
