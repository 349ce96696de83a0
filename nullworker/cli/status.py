"""``nullworker status``: endpoints, workers and waiters of an engine, in numbers."""

from __future__ import annotations

import json

import click

from nullworker.cli.asking import ask, engine_options
from nullworker.wire.paths import STATUS

EPILOG = """\b
Examples:
  nullworker status
  nullworker status --instance http://10.0.0.5:8080 --json"""


@click.command("status", epilog=EPILOG)
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def command(instance: str, api_key: str | None, as_json: bool) -> None:
    """Show what an engine's endpoints want, have asked for, and have."""
    from rich.markup import escape
    from rich.table import Table

    from nullworker.cli.printing import console_of_lines

    answer = ask(instance, api_key, STATUS)
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    console = console_of_lines()
    for complaint in answer["complaints"]:
        console.print(f"[bold red]{escape(complaint)}[/]")
    for endpoint in answer["endpoints"]:
        wanted, requested, observed = endpoint["wanted"], endpoint["requested"], endpoint["observed"]
        console.print(f"[bold]{escape(endpoint['name'])}[/] (endpoint {endpoint['id']}, {endpoint['state']})")
        console.print(
            f"  wanted {wanted['active_perf']:g} perf for {_counted(wanted['places'], 'urgent waiter')}, requested "
            f"{_counted(requested['workers'], 'worker')} with {requested['perf']:g}, observed "
            f"{observed['ready']} free and {observed['held']} held; {endpoint['waiting']} waiting"
            + (f" because {escape(endpoint['why'])}" if endpoint["why"] else "")
        )
        if not endpoint["workers_list"]:
            continue
        table = Table("worker", "state", "for", "holds", "reported", "note", box=None, padding=(0, 2))
        for worker in endpoint["workers_list"]:
            held = ", ".join(str(idx) for idx in worker["request_idxs"])
            note = escape(worker["error"] or worker["retire"] or ("silent" if worker["suspect"] else ""))
            table.add_row(
                str(worker["id"]), worker["state"], _age(worker["for_s"]), held, _age(worker["reported_s_ago"]), note
            )
        console.print(table)
    if not answer["endpoints"]:
        console.print("The engine has no endpoint; vastai create endpoint makes one.")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
