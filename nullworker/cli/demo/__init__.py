"""``nullworker demo``: four workers come up for a queue of jobs, finish them, and go away."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from pathlib import Path

import click

from nullworker.cli.errors import UserError
from nullworker.cli.programs import check_program
from nullworker.wire import tasks

JOBS_MAX = 10_000


@click.command(
    "demo",
    epilog="""\b
Examples:
  nullworker demo
  nullworker demo --open
  nullworker demo --jobs 8 --max 2 -- sh -c 'sleep 1; echo "job $JOB"'
  nullworker demo --fleet slurm --config nullworker.toml --folder ~/demo""",
)
@click.option("--jobs", type=click.IntRange(1, JOBS_MAX), default=24, show_default=True, help="How many jobs.")
@click.option("--max", "at_most", type=click.IntRange(1, 64), default=4, show_default=True, help="Workers at most.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Where the picture and the timeline go.",
)
@click.option("--fleet", default="processes", show_default=True, help="Where the workers run.")
@click.option(
    "--config",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of the engine, whose tables [engine] and [fleet.NAME] are used.",
)
@click.option("--open", "opens", is_flag=True, help="Open the engine's page in a browser while the demo runs.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON and nothing else.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def command(
    jobs: int,
    at_most: int,
    folder: Path,
    fleet: str,
    file: Path | None,
    opens: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Draw a Mandelbrot set with one worker for each tile in flight, from zero workers and back to zero.

    An engine, its worker processes and a job queue run on this machine for less than a minute; nothing is left behind.
    With COMMAND, that is run for each job instead, with the job's number in the variable JOB. With --fleet, the workers
    run on other machines; these must have the folder and this Python at the same places, as on a cluster with shared
    home directories.
    """
    from nullworker.cli.demo.mandelbrot import TILES
    from nullworker.cli.demo.screen import Screen
    from nullworker.cli.demo.stage import Show, play
    from nullworker.client.errors import ClientError
    from nullworker.engine.config import load_config
    from nullworker.engine.config_source import ConfigError
    from nullworker.engine.server import ServerError
    from nullworker.queues.base import QueueError

    if not command and jobs > TILES:
        raise click.BadParameter(f"the picture has {TILES} tiles", param_hint="--jobs")
    if command:
        check_program(command[0])
    check_folder(folder)
    try:
        base = None if file is None else load_config(file)
    except ConfigError as error:
        raise UserError(str(error)) from None
    show = Show([str(number) for number in range(jobs)], at_most, folder, list(command), fleet, base)

    def ready(url: str, key: str) -> None:
        screen.page(url, key)
        if opens:
            import webbrowser

            webbrowser.open(url)

    async def play_until_interrupted() -> bool:
        loop = asyncio.get_running_loop()
        task = tasks.start(play(show, screen.show, ready))
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, task.cancel)
        try:
            summary = await task
        except asyncio.CancelledError:
            return False
        if as_json:
            print(json.dumps(summary.to_json(), indent=2))
        screen.finish(summary)
        if summary.jobs_done < jobs or summary.workers_left or summary.processes_left:
            raise UserError("The demo did not end as it should; the summary above says what is missing.")
        return True

    try:
        with Screen(jobs, quiet=as_json) as screen:
            whole = asyncio.run(play_until_interrupted())
    except (ServerError, ClientError, QueueError) as error:
        raise UserError(str(error)) from None
    if not whole:
        raise KeyboardInterrupt


def check_folder(folder: Path) -> None:
    """Makes the folder for the picture.

    Raises:
        UserError: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UserError(f"The folder {folder} cannot be written to ({why}); give another with --folder.") from None
