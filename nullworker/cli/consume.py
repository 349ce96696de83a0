"""``nullworker consume``: runs a command beside a worker, for each reservation of it."""

from __future__ import annotations

import os
import re
import shutil

import click

from nullworker.cli.errors import UserError

EPILOG = """\b
Examples:
  nullworker consume -- python consumer.py
  nullworker consume --release-when-idle 60 -- celery -A tasks worker -c 1
  NULL_CONTROL_PORT=19001 nullworker consume -- rq worker --burst gpu

Run it on the worker's instance. The command starts when the worker is held, with NULL_SESSION_ID and NULL_PAYLOAD in
its environment; it gets SIGTERM when the reservation is over; its end gives the worker back, and its crash reports the
worker as broken. docs/consumer.md says more."""


@click.command("consume", epilog=EPILOG, context_settings={"allow_interspersed_args": False})
@click.option(
    "--release-when-idle", "idle_s", type=click.FloatRange(1.0), metavar="SECONDS",
    help="Ask the command to end when it has done nothing for so long: no output, no process started or ended, next to "
    "no processor time, no GPU in use, no heartbeat. Not for a command that waits for other machines.",
)  # fmt: skip
@click.option(
    "--ignore-output", multiple=True, metavar="REGEX",
    help="Lines that match are no sign of work for --release-when-idle; may be given again. Celery's of other workers "
    "(sync with, missed heartbeat from) are ignored in any case.",
)  # fmt: skip
@click.option(
    "--keep-alive", is_flag=True,
    help="Keep the worker held while the command runs, even if the client that reserved it does not come back.",
)  # fmt: skip
@click.option(
    "--grace", "grace_s", type=click.FloatRange(0.0, 3600.0), default=8.0, show_default=True,
    help="Seconds between SIGTERM and SIGKILL, when the reservation is over.",
)  # fmt: skip
@click.option(
    "--background", "background_s", type=click.FloatRange(0.0, 30 * 86_400.0), metavar="SECONDS",
    help="How long what the command, when it has ended with 0, left in the background may go on  [default: to its end]"
)  # fmt: skip
@click.option(
    "--control-port", type=click.IntRange(1, 65_535), envvar="NULL_CONTROL_PORT", default=18_999, show_default=True,
    help="The worker's control port on this machine.",
)  # fmt: skip
@click.option(
    "--run-as", "run_as_name", envvar="NULL_RUN_AS", metavar="USER",
    help="The user that the command runs as: one that can read neither the worker's token nor the engine's files. "
    "Takes root.",
)  # fmt: skip
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    idle_s: float | None,
    ignore_output: tuple[str, ...],
    keep_alive: bool,
    grace_s: float,
    background_s: float | None,
    control_port: int,
    run_as_name: str | None,
    command: tuple[str, ...],
) -> int:
    """Run COMMAND while the worker on this machine is held, once for each reservation."""
    from nullworker.wire.output import log_to_stderr
    from nullworker.wire.worker_side.run_as import RunAsError, find
    from nullworker.worker.consume_command import ConsumeSettings, run

    if shutil.which(command[0]) is None and os.path.isfile(command[0]):  # noqa: PTH113 - as text
        raise UserError(
            f"{command[0]} is a file that may not be run: chmod +x {command[0]}, or name its interpreter before it.",
            exit_code=126,
        )
    if shutil.which(command[0]) is None:
        raise UserError(f"There is no program {command[0]!r} to run; correct the command after --.", exit_code=127)
    try:
        run_as = find(run_as_name) if run_as_name else None
    except RunAsError as error:
        raise click.BadParameter(f"{error}", param_hint="--run-as") from None
    log_to_stderr("nullworker consume: %(message)s")
    control_url = f"http://127.0.0.1:{control_port}"
    told = os.environ.get("NULL_CONTROL_URL", "")
    if told.startswith(f"{control_url}/"):
        control_url = told  # with the token that its worker's control port asks for
    try:
        ignored = tuple(re.compile(os.fsencode(text)) for text in ignore_output)
    except re.error as error:
        raise click.BadParameter(f"{error}", param_hint="--ignore-output") from None
    return run(ConsumeSettings(command, control_url, grace_s, idle_s, keep_alive, ignored, background_s, run_as))
