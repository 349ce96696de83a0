"""``nullworker drain``: has a worker go when what it holds has ended."""

from __future__ import annotations

import click

from nullworker.cli.asking import engine_options, tell
from nullworker.wire.paths import DRAIN

EPILOG = """\b
Examples:
  nullworker drain 3 --reason "its fan is loud"
  nullworker drain 3 --cancel"""


@click.command("drain", epilog=EPILOG)
@click.argument("worker", type=click.IntRange(1))
@engine_options
@click.option("--cancel", is_flag=True, help="The worker serves again.")
@click.option("--reason", default="", help="Why, for the audit log.")
def command(worker: int, instance: str, api_key: str | None, cancel: bool, reason: str) -> None:
    """Have WORKER get nothing new, keep what it holds to its end, and then go.

    It takes effect with the worker's next report, within ten seconds.
    """
    tell(instance, api_key, DRAIN, {"worker_id": worker, "cancel": cancel, "reason": reason[:200]}, reason)
    print(f"Worker {worker} {'serves again' if cancel else 'is drained'} from its next report on.")
