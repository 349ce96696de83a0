"""``nullworker``: a group of commands, each in a file (or package) of its own here, loaded when it is asked for.

A command's file has the attribute ``command``, a ``click`` command that returns its exit code (None: 0). What its user
can correct it raises as `nullworker.cli.errors.UserError`, or as the client's ``ClientError``.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nullworker.cli.ending import hang_up_as_terminate, keep_interrupts_from_imports
from nullworker.cli.errors import UserError
from nullworker.client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

EXIT_DONE, EXIT_FAILED, EXIT_MISUSED, EXIT_INTERRUPTED = 0, 1, 2, 130

#: What ``nullworker --help`` says of each, without loading it. One whose file is not there is not a command.
COMMANDS = {
    "engine": "Route reservations and scale fleets, on Vast Serverless's wire.",
    "reserve": "Reserve workers, hold them for a while, and give them back.",
    "dispatch": "Keep as many reservations as a queue has work.",
    "up": "Serve a queue: an engine and a dispatcher in one, with a screen.",
    "consume": "Run a command beside a worker, once for each reservation.",
    "status": "Show endpoints, workers and reservations.",
    "logs": "Show what consumers printed, or what the engine decided about an endpoint.",
    "explain": "Tell why a fleet has the size that it has, or had.",
    "queues": "Show the queues as each dispatcher reads them.",
    "cost": "Show what workers cost, and what for.",
    "drain": "Have a worker go when what it holds has ended.",
    "replace": "Have a worker go, and another come in its place.",
    "extend": "Have a worker held for longer.",
    "end": "End a request that waits, or give back its worker.",
    "change": "Change an endpoint's parameters, suspend it, resume it.",
    "audit": "Show what operators did, when, and why.",
    "keys": "Print the key that sees and changes nothing.",
    "doctor": "Check this machine, its engine, workers and queues, and say what to do.",
    "join": "Print what a worker of your own needs to join an endpoint.",
    "simulate": "Try an endpoint's parameters on a trace before they cost money.",
    "replay": "Run an engine's journal again.",
    "bench": "Measure what the README says.",
    "demo": "Draw a picture with a queue, a fleet and no idle worker.",
    "completion": "Print what a shell needs to complete these commands.",
}

#: Which extra brings a module that a command may find missing. What every installation has is not here.
EXTRA_OF_MODULE = {
    "vastai": "worker",
    "Crypto": "worker",
    "cryptography": "engine",
    "jwt": "engine",
    "prometheus_client": "metrics",
    "rich": "engine",
    "uvloop": "engine",
    "flask": "classic",
    "requests": "classic",
    "waitress": "classic",
    "PIL": "demo",
    "matplotlib": "charts",
    "redis": "redis",
    "boto3": "sqs",
    "botocore": "sqs",
    "nats": "nats",
    "aio_pika": "rabbitmq",
    "aiormq": "rabbitmq",
    "psycopg": "postgres",
}

EPILOG = "Each command explains itself with an example: nullworker reserve --help"


class Commands(click.Group):
    """The commands that have a file. ``package`` is where they are."""

    def __init__(self, package: str, directory: Path) -> None:
        super().__init__(
            name="nullworker",
            help="One worker for each job in flight, from zero and back.",
            epilog=EPILOG,
            context_settings={"auto_envvar_prefix": "NULLWORKER", "help_option_names": ["-h", "--help"]},
        )
        self._package = package
        self._directory = directory

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order of `COMMANDS`."""
        return [name for name in COMMANDS if self._has(name)]

    def _has(self, name: str) -> bool:
        return (self._directory / f"{name}.py").is_file() or (self._directory / name / "__init__.py").is_file()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads the command's file.

        Raises:
            UserError: it needs something that is not installed.
        """
        if cmd_name not in self.list_commands(ctx):
            return None
        try:
            module = importlib.import_module(f"{self._package}.{cmd_name}")
        except ModuleNotFoundError as error:
            raise _missing(cmd_name, error) from error
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest command where there is none of that name."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and (near := difflib.get_close_matches(args[0], names, 1)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin so, without loading any command."""
        from click.shell_completion import CompletionItem

        commands = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [
            *(CompletionItem(name, help=COMMANDS[name]) for name in commands),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _missing(command: str, error: ModuleNotFoundError) -> Exception:
    """What to install; the error itself where the module is one of ours, or nothing that an extra brings."""
    module = (error.name or "").partition(".")[0]
    extra = EXTRA_OF_MODULE.get(module)
    if extra is None:
        return error
    return UserError(
        f"nullworker {command} needs the extra '{extra}' ({module} is not installed): pip install 'nullworker[{extra}]'"
    )


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"nullworker {version('nullworker')}")
        except PackageNotFoundError:
            click.echo("nullworker, run from a clone that is not installed")
        ctx.exit()


def build(package: str = "nullworker.cli", directory: Path = Path(__file__).parent) -> click.Group:
    """The group, with the commands that ``directory`` has."""
    group = Commands(package, directory)
    group.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_version,
            help="Show the version and exit.",
        )
    )
    return group


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    hang_up_as_terminate()
    keep_interrupts_from_imports()
    sys.exit(run(build(), argv))


def run(group: click.Command, argv: Sequence[str] | None = None, *, prog: str = "nullworker") -> int:
    """Runs one command; returns the exit code. Prints one sentence on stderr for what the user can correct.

    Args:
        group: the commands, or one of them by itself.
        argv: the arguments; None: those of the process.
        prog: what help and complaints call it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = group.main(arguments, prog_name=prog, standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except UserError as error:
        return _fail(error, error.exit_code)
    except ClientError as error:
        return _fail(error, EXIT_FAILED)
    except ModuleNotFoundError as error:
        missing = _missing(next(iter(arguments), ""), error)
        if not isinstance(missing, UserError):
            raise
        return _fail(missing, missing.exit_code)
    except BrokenPipeError:
        # The reader of the output has closed it. Else Python would complain while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return code if isinstance(code, int) else EXIT_DONE


def _fail(error: Exception, code: int) -> int:
    click.echo(f"error: {error}", err=True)
    return code


if __name__ == "__main__":
    main()
