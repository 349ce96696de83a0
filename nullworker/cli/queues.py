"""``nullworker queues``: the queues as each dispatcher reads them."""

from __future__ import annotations

import json

import click

from nullworker.cli.asking import ask_view, engine_options

EPILOG = """\b
Examples:
  nullworker queues
  nullworker queues --json"""


@click.command("queues", epilog=EPILOG)
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(instance: str, api_key: str | None, as_json: bool) -> None:
    """Show the queues of all dispatchers that told the engine of them in the last ten minutes."""
    import msgspec
    from rich.markup import escape
    from rich.table import Table

    from nullworker.cli.printing import console_of_lines
    from nullworker.views.text import duration
    from nullworker.views.types import Queues

    view = ask_view(instance, api_key, Queues, "queues")
    if as_json:
        print(json.dumps(msgspec.to_builtins(view), indent=2))
        return
    console = console_of_lines()
    if not view.rows:
        console.print("No dispatcher has told this engine of a queue in the last ten minutes.")
        return
    head = ("queue", "endpoint", "waiting", "in flight", "delayed", "want", "held", "read", "dispatcher", "notes")
    table = Table(*head, box=None, padding=(0, 2))
    for row in view.rows:
        numbers = ("?" if n is None else str(n) for n in (row.waiting, row.in_flight, row.delayed, row.want, row.held))
        read = "not yet" if row.read_s_ago is None else f"{duration(row.read_s_ago)} ago"
        notes = "; ".join(filter(None, ["paused" if row.paused else "", row.trouble, *row.warnings]))
        table.add_row(escape(row.queue), escape(row.endpoint), *numbers, read, escape(row.dispatcher), escape(notes))
    console.print(table)
