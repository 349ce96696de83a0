"""``nullworker status``: each endpoint in a sentence, its workers, and what waits; as the page shows it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from nullworker.cli.asking import ask, ask_view, engine_options
from nullworker.cli.errors import UserError
from nullworker.client.errors import ClientError
from nullworker.wire.paths import STATUS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from nullworker.views.types import EndpointOverview

EPILOG = """\b
Examples:
  nullworker status
  nullworker status --waiting
  nullworker status --watch
  nullworker status --instance http://10.0.0.5:8080 --json"""

WATCH_S = 2.0
#: A dispatcher reports every 30 s.
_SILENT_AFTER_S = 70.0


@click.command("status", epilog=EPILOG)
@engine_options
@click.option("--waiting", is_flag=True, help="Also show who waits: position, age, why, and an estimate.")
@click.option("--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C; with --json, a line each.")
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
def command(instance: str, api_key: str | None, waiting: bool, watch: bool, as_json: bool) -> None:
    """Show what an engine's endpoints want, have asked for, and have."""

    def show() -> None:
        answer = ask(instance, api_key, STATUS)
        if as_json:
            print(json.dumps(answer, indent=None if watch else 2), flush=True)
        else:
            _show(instance, api_key, answer, waiting=waiting, clears=watch)

    show()
    while watch:
        time.sleep(WATCH_S)
        _show_again(show)


def _show_again(show: Callable[[], None]) -> None:
    """Shows it once more; an engine that does not answer now is asked again later."""
    try:
        show()
    except (UserError, ClientError) as error:
        click.echo(f"{error} It is asked again every {WATCH_S:g} s.", err=True)


def _show(instance: str, api_key: str | None, answer: dict[str, Any], *, waiting: bool, clears: bool) -> None:
    from rich.markup import escape

    from nullworker.cli.printing import console_of_lines
    from nullworker.views.types import Overview

    overview = ask_view(instance, api_key, Overview, "overview")
    console = console_of_lines()
    if clears and console.is_terminal:
        console.clear()
    for complaint in overview.complaints:
        console.print(f"[bold red]{escape(complaint)}[/]")
    rows = {row["id"]: row for row in answer["endpoints"]}
    for endpoint in overview.endpoints:
        _show_endpoint(console, endpoint, rows.get(endpoint.id, {}))
    for queue in answer["queues"]:
        for line in _queue_lines(queue):
            console.print(escape(line))
    if not overview.endpoints:
        console.print("The engine has no endpoint; vastai create endpoint makes one.")
    if waiting:
        _show_line(console, instance, api_key)


def _show_endpoint(console: Console, endpoint: EndpointOverview, row: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from nullworker.views.text import counted, duration

    left_over = "; no longer in the engine's configuration" if row.get("left_over") else ""
    about = f"(endpoint {endpoint.id}, {endpoint.state}{left_over})"
    console.print(f"[bold]{escape(endpoint.name)}[/] {about}: {endpoint.headline}")
    if not row:
        return
    wanted, requested, observed = row["wanted"], row["requested"], row["observed"]
    console.print(
        f"  wanted {wanted['active_perf']:g} perf for {counted(wanted['places'], 'urgent waiter')}, requested "
        f"{counted(requested['workers'], 'worker')} with {requested['perf']:g}, observed {observed['ready']} free and "
        f"{observed['held']} held; {row['waiting']} waiting" + (f" because {escape(row['why'])}" if row["why"] else "")
    )
    if endpoint.waiting:
        told = "no time can be told" if endpoint.next.in_s is None else f"next in about {duration(endpoint.next.in_s)}"
        console.print(
            f"  the first has waited for {duration(endpoint.oldest_s)}; {told}: {escape(endpoint.next.ground)}"
        )
    for group in endpoint.workergroups if not endpoint.waiting else ():  # else it is why one waits
        if group.failures and group.next_try_in_s > 0:
            told = f"tried again in {duration(group.next_try_in_s)}: {group.last_error}"
            console.print(f"  workergroup {group.id} on {group.fleet} is {escape(told)}")
    if not row["workers_list"]:
        return
    table = Table("worker", "state", "for", "holds", "reported", "note", box=None, padding=(0, 2))
    for worker in row["workers_list"]:
        held = ", ".join(str(idx) for idx in worker["request_idxs"])
        note = escape(worker["error"] or worker["retire"] or ("silent" if worker["suspect"] else ""))
        ages = duration(worker["for_s"]), duration(worker["reported_s_ago"])
        table.add_row(str(worker["id"]), worker["state"], ages[0], held, ages[1], note)
    console.print(table)


def _show_line(console: Console, instance: str, api_key: str | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    from nullworker.views.text import counted, duration
    from nullworker.views.types import WaitingLine

    line = ask_view(instance, api_key, WaitingLine, "waiting")
    console.print(f"{counted(line.total, 'request')} {'waits' if line.total == 1 else 'wait'}.")
    if not line.rows:
        return
    table = Table("position", "request", "endpoint", "age", "estimate", "why", box=None, padding=(0, 2))
    for row in line.rows:
        estimate = "no time can be told" if row.eta.in_s is None else f"in about {duration(row.eta.in_s)}"
        why = f"{row.reason}; {row.eta.ground}"
        table.add_row(
            str(row.position), str(row.request_idx), escape(row.endpoint), duration(row.age_s), estimate, escape(why)
        )
    console.print(table)


def _queue_lines(queue: dict[str, Any]) -> list[str]:
    """What a dispatcher reads of a queue, its trouble and the queue's warnings."""
    from nullworker.views.text import duration

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
    text += "" if queue["read_s_ago"] is None else f"; read {duration(queue['read_s_ago'])} ago"
    silent = queue["heard_s_ago"] > _SILENT_AFTER_S
    return [
        text,
        *(
            [f"  its dispatcher ({queue['dispatcher']}) is silent for {duration(queue['heard_s_ago'])}"]
            if silent
            else []
        ),
        *([f"  {queue['trouble']}"] if queue["trouble"] else []),
        *(f"  warning: {warning}" for warning in queue["warnings"]),
    ]
