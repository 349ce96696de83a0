"""``nullworker up``: an engine and a dispatcher in one process, for a queue and a consumer on this machine."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nullworker.cli.errors import UserError
from nullworker.cli.programs import check_program, unusable_consumers

if TYPE_CHECKING:
    from nullworker.cli.up.plan import Plan

EPILOG = """\b
Examples:
  nullworker up --queue sqlite://./jobs.db -- python consumer.py
  nullworker up --queue 'rq://localhost/0?queue=default' --max 2 -- rq worker --burst default
  nullworker up --config nullworker.toml

The file is that of nullworker engine and nullworker dispatch, in one. Ctrl-C starts no further job, and says how many
run: a second one ends them, else they go on, and the next nullworker up takes them over."""

#: A worker that nothing needs goes after this long, where no file says otherwise.
IDLE_S = 10.0


@click.command("up", epilog=EPILOG)
@click.option("--queue", metavar="URL", help="The queue to read; docs/queues.md lists the kinds.")
@click.option("--max", "most", type=click.IntRange(1), default=4, show_default=True, help="Workers at most.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="A file for all of it.")
@click.option("--port", type=click.IntRange(0, 65535), help="The engine's port, 0 for any free one  [default: 8080]")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="Where keys, store and logs are kept.")
@click.option(
    "--max-idle-hold",
    "max_idle_hold_s",
    type=click.FloatRange(2, 7 * 86_400),
    metavar="SECONDS",
    help="Release a worker whose job has been over for so long though its consumer does not end, or that took none "
    "while none waited.",
)
@click.option("--until-empty", is_flag=True, help="End when the queue is empty and nothing is held.")
@click.option("--end-jobs", is_flag=True, help="At the end, end the jobs that run, without asking.")
@click.option("--leave-jobs", is_flag=True, help="At the end, let the jobs that run go on, without asking.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def command(
    queue: str | None,
    most: int,
    config: Path | None,
    port: int | None,
    state: Path | None,
    max_idle_hold_s: float | None,
    until_empty: bool,
    end_jobs: bool,
    leave_jobs: bool,
    command: tuple[str, ...],
) -> int:
    """Serve a queue: start COMMAND on a worker for each job that waits, and let workers go when there is none.

    COMMAND is the consumer: it takes a job from the queue, does it, and ends.
    """
    from nullworker.cli.up.run import AtSignal, run_until_done
    from nullworker.dispatch.settings import DispatchSettingsError
    from nullworker.dispatch.store import DispatchStoreError
    from nullworker.engine.config import ConfigError
    from nullworker.engine.server import ServerError
    from nullworker.queues.base import QueueError

    if end_jobs and leave_jobs:
        raise click.UsageError("Give --end-jobs or --leave-jobs, not both.")
    if (config is None) == (queue is None):
        raise click.UsageError("Give --queue URL and a COMMAND after --, or --config FILE.")
    if queue is not None and not command:
        raise click.UsageError("Give the consumer after --, as in: nullworker up --queue URL -- python consumer.py")
    if config is not None and command:
        raise click.UsageError("With --config the consumer is in the file: leave the COMMAND away.")
    if config is not None and max_idle_hold_s is not None:
        raise click.UsageError("With --config, max_idle_hold_s is a key of [[dispatch.queue]] in the file.")
    at_signal = AtSignal.END if end_jobs else AtSignal.LEAVE if leave_jobs else AtSignal.ASK
    try:
        plan = _plan(queue, most, config, port, state, max_idle_hold_s, command)
        return asyncio.run(run_until_done(plan, at_signal, until_empty=until_empty))
    except ServerError as error:
        raise UserError(str(error), error.exit_code) from None
    except (ConfigError, DispatchSettingsError, DispatchStoreError, QueueError) as error:
        raise UserError(str(error)) from None


def _plan(
    queue: str | None,
    most: int,
    config: Path | None,
    port: int | None,
    state: Path | None,
    max_idle_hold_s: float | None,
    command: tuple[str, ...],
) -> Plan:
    from dataclasses import replace

    from nullworker.cli.up.plan import Plan
    from nullworker.core.parameters import TESTED_PARAMETERS
    from nullworker.dispatch.binding import BindingSettings
    from nullworker.dispatch.settings import DispatchSettings, check_binding, check_settings
    from nullworker.dispatch.settings_file import load_settings
    from nullworker.engine.config import EndpointConfig, WorkergroupConfig, load_config

    given = {"port": port, "state": state}
    flags = [(key, str(value)) for key, value in given.items() if value is not None]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NULLWORKER_UP_")}
    engine = load_config(config, environ, flags)
    if config is not None:
        for sentence in unusable_consumers(engine):
            raise UserError(sentence)
        return Plan(engine, load_settings(config))
    check_program(command[0])
    parameters = replace(TESTED_PARAMETERS, max_workers=most, inactivity_timeout=IDLE_S)
    group = WorkergroupConfig(consumer=shlex.join(command))
    engine = replace(engine, endpoints=(EndpointConfig("up", parameters, (group,)),))
    binding = check_binding(BindingSettings("up", str(queue), most=most, max_idle_hold_s=max_idle_hold_s))
    return Plan(engine, check_settings(DispatchSettings((binding,))))
