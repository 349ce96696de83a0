"""``nullworker replace``: has one worker go, or all of a workergroup, and others come in their place."""

from __future__ import annotations

import click

from nullworker.cli.asking import engine_options, tell
from nullworker.cli.errors import UserError
from nullworker.wire.paths import REPLACE, UPDATE_WORKERS

EPILOG = """\b
Examples:
  nullworker replace 3 --reason "its disk is full"
  nullworker replace 3 --dry-run
  nullworker replace --workergroup 2"""


@click.command("replace", epilog=EPILOG)
@click.argument("worker", type=click.IntRange(1), required=False)
@engine_options
@click.option("--workergroup", type=click.IntRange(1), help="All workers of this workergroup.")
@click.option("--dry-run", is_flag=True, help="Only say what would come of it.")
@click.option("--reason", default="", help="Why, for the audit log.")
def command(
    worker: int | None, instance: str, api_key: str | None, workergroup: int | None, dry_run: bool, reason: str
) -> None:
    """Have WORKER go when what it holds has ended; another is created as soon as one is wanted."""
    if (worker is None) == (workergroup is None):
        raise click.UsageError("Give the number of a worker, or --workergroup.")
    if worker is not None:
        body = {"worker_id": worker, "dry_run": dry_run, "reason": reason[:150]}
        print(tell(instance, api_key, REPLACE, body, reason)["text"])
        return
    if dry_run:
        raise click.UsageError(
            "--dry-run is for one worker; free workers of a group are replaced now, held ones later."
        )
    answer = tell(instance, api_key, UPDATE_WORKERS, {"workergroup_id": workergroup}, reason)
    if not answer["success"]:
        raise UserError(answer["error_msg"])
    print(f"{answer['workers_to_update']} workers are replaced: free ones now, held ones when they are released.")
