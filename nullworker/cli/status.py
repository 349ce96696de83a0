"""``nullworker status``: endpoints, workers and waiters of an engine, in numbers."""

from __future__ import annotations

import json
from typing import Any

import click

from nullworker.cli.asking import ask, engine_options
from nullworker.wire.paths import STATUS

#: A dispatcher reports every 30 s.
_SILENT_AFTER_S = 70.0

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
        left_over = "; no longer in the engine's configuration" if endpoint.get("left_over") else ""
        console.print(
            f"[bold]{escape(endpoint['name'])}[/] (endpoint {endpoint['id']}, {endpoint['state']}{left_over})"
        )
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
    for queue in answer["queues"]:
        for line in _queue_lines(queue):
            console.print(escape(line))
    if not answer["endpoints"]:
        console.print("The engine has no endpoint; vastai create endpoint makes one.")


def _queue_lines(queue: dict[str, Any]) -> list[str]:
    """What a dispatcher reads of a queue, its trouble and the queue's warnings."""

    def told(count: int | None) -> str:
        return "?" if count is None else str(count)

    text = f"{queue['endpoint']} {queue['queue']}: {told(queue['waiting'])} waiting"
    text += f", {told(queue['in_flight'])} in flight"
    text += f", {queue['abandoned']} abandoned" if queue["abandoned"] else ""
    text += f", {queue['delayed']} delayed" if queue["delayed"] else ""
    text += ", paused" if queue["paused"] else ""
    doing = ", ".join(f"{count} {what}" for what, count in sorted(queue["doing"].items()))
    text += f"; want {told(queue['want'])}, {queue['held']} held{f' ({doing})' if doing else ''}"
    text += f", {queue['asked']} requested"
    text += "" if queue["read_s_ago"] is None else f"; read {_age(queue['read_s_ago'])} ago"
    silent = queue["heard_s_ago"] > _SILENT_AFTER_S
    return [
        text,
        *([f"  its dispatcher ({queue['dispatcher']}) is silent for {_age(queue['heard_s_ago'])}"] if silent else []),
        *([f"  {queue['trouble']}"] if queue["trouble"] else []),
        *(f"  warning: {warning}" for warning in queue["warnings"]),
    ]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
