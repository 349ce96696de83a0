"""``nullworker explain``: why an endpoint, a worker or a request is as it is, and the decisions behind it."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import click

from nullworker.cli.asking import ask, ask_view, engine_options
from nullworker.cli.errors import UserError
from nullworker.cli.times import moment
from nullworker.wire.paths import MOMENT, STATUS, STORY

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = """\b
Examples:
  nullworker explain null-local
  nullworker explain worker 3
  nullworker explain request 17 --json
  nullworker explain null-local --at 14:05     # why it was as it was then
  nullworker explain worker 3 --at -10m
  nullworker explain engine"""

#: The least widths: `logs --follow` prints few lines at a time, and their columns should be aligned.
KIND_WIDTH_MIN, SUBJECT_WIDTH_MIN = 21, 24


@click.command("explain", epilog=EPILOG)
@click.argument("about", nargs=-1, required=True, metavar="ENDPOINT | worker ID | request ID | engine")
@engine_options
@click.option("--tail", type=click.IntRange(0), default=50, show_default=True, help="Only the last so many decisions.")
@click.option("--at", metavar="TIME", help="At a past time of the last week: 14:05, 2026-11-27T14:05:30, or -10m.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(
    about: tuple[str, ...], instance: str, api_key: str | None, tail: int, at: str | None, as_json: bool
) -> None:
    """Say in a sentence why an endpoint, a worker or a request is as it is; then, how it came to be so."""
    answer = ask(instance, api_key, STORY, about=" ".join(about))
    if at is not None:
        answer = _at(instance, api_key, answer["about"], at)
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    print(answer["answer"])
    if answer.get("endpoint_answer") not in (None, "", answer["answer"]):
        print(answer["endpoint_answer"])
    if at is None and answer["about"]["kind"] in ("worker", "request"):
        with contextlib.suppress(UserError):  # nothing but decisions is known of it any more
            for line in cost_lines(instance, api_key, answer["about"]["kind"], answer["about"]["id"]):
                print(line)
    if at is None and answer["about"]["kind"] in ("endpoint", "worker"):
        about_kind, about_id = answer["about"]["kind"], answer["about"]["id"]
        for line in queue_troubles(ask(instance, api_key, STATUS), about_kind, about_id):
            print(line)
    decisions = answer["decisions"]
    shown = decisions[max(0, len(decisions) - tail) :]
    if shown:
        print()
    for line in lines(shown):
        print(line)


def cost_lines(instance: str, api_key: str | None, kind: str, number: int) -> list[str]:
    """What a worker or a request cost, and what a request is for, as its page shows it.

    Args:
        instance: as for `ask`.
        api_key: as for `ask`.
        kind: ``worker`` or ``request``.
        number: its number.
    """
    from nullworker.views.types import ReservationStory, WorkerStory

    found = []
    if kind == "worker":
        cost = ask_view(instance, api_key, WorkerStory, "worker", id=str(number)).cost
    else:
        story = ask_view(instance, api_key, ReservationStory, "reservation", id=str(number))
        cost = story.cost
        purpose = " of ".join(filter(None, [story.job and f"job {story.job}", story.queue and f"queue {story.queue}"]))
        found += [f"It is for {purpose}."] if purpose else []
    if cost is not None and float(cost.total):
        found.append(
            f"It cost {cost.total}: {cost.held} held, {cost.boot} coming up, {cost.idle} free, {cost.other} other, "
            f"{cost.storage} storage."
        )
    return found


def queue_troubles(status: dict[str, Any], kind: str, number: int) -> list[str]:
    """What dispatchers say is wrong with the queues of an endpoint, such as workers that are held for nothing.

    Args:
        status: the engine's.
        kind: what is explained: an ``endpoint``, or a ``worker`` of it.
        number: of that.
    """
    names = {
        endpoint["name"]
        for endpoint in status["endpoints"]
        if number in ([endpoint["id"]] if kind == "endpoint" else [each["id"] for each in endpoint["workers_list"]])
    }
    return [
        f"Of its queue {queue['queue']}, the dispatcher says: {queue['trouble']}."
        for queue in status["queues"]
        if queue["endpoint"] in names and queue["trouble"]
    ]


def _at(instance: str, api_key: str | None, about: dict[str, Any], at: str) -> dict[str, Any]:
    if about["kind"] == "engine":
        raise click.BadParameter("the engine itself has no past; name an endpoint, a worker or a request.")
    now = dt.datetime.now().astimezone()
    subject = f"{about['kind']} {about['id']}"
    return ask(instance, api_key, MOMENT, about=subject, at=f"{moment(at, now).timestamp():.3f}")


def lines(decisions: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each decision: time, kind, subject, reason; no column is narrower than its content."""
    subjects = [
        " ".join(f"{word} {d[key]}" for word, key in (("worker", "worker_id"), ("request", "request_idx")) if d[key])
        for d in decisions
    ]
    kind_width = max([KIND_WIDTH_MIN, *(len(d["kind"]) for d in decisions)])
    subject_width = max([SUBJECT_WIDTH_MIN, *map(len, subjects)])
    return [
        f"{_time(d['at_s'])}  {d['kind']:<{kind_width}}  {about:<{subject_width}}  {d['reason']}"
        for d, about in zip(decisions, subjects, strict=True)
    ]


def _time(at_s: float) -> str:
    at = dt.datetime.fromtimestamp(at_s, dt.timezone.utc).astimezone()
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
