"""``nullworker engine``: routes reservations and scales fleets until it is stopped."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nullworker.cli.errors import UserError
from nullworker.cli.programs import unusable_consumers
from nullworker.wire.importing import uncollected

if TYPE_CHECKING:
    from nullworker.engine.config import EngineConfig
    from nullworker.engine.decisions import Decision
    from nullworker.engine.server import Server

EPILOG = """\b
Examples:
  nullworker engine
  nullworker engine --config nullworker.toml --port 9000
  nullworker engine --config new.toml --port 9000 --dry-run
  nullworker engine --host 0.0.0.0 --tls
  nullworker engine --state /var/lib/nullworker --set endpoint.null-local.max_workers=4

With no file it serves one endpoint, null-local, on processes of this machine. Ctrl-C (or SIGTERM) ends it and its free
workers; those that are held run on, and the next start takes them over."""


@click.command("engine", epilog=EPILOG)
@click.option("--host", help="The address to listen on  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port, 0 for any free one  [default: 8080]")
@click.option(
    "--tls", is_flag=True, default=None, help="Serve HTTPS, with a certificate of the engine's own authority."
)
@click.option("--insecure", is_flag=True, default=None, help="Serve plain HTTP beyond this machine all the same.")
@click.option("--state", type=click.Path(path_type=Path), help="Where keys, store and logs are kept.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="The configuration file (TOML).")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="Write every event and command there.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the file, by its path.")
@click.option("--leave-workers", is_flag=True, help="At the end, let all workers run on for the next start.")
@click.option("--end-workers", is_flag=True, help="At the end, end all workers, with the jobs of those that are held.")
@click.option("--dry-run", is_flag=True, help="Decide, order nothing, and print what would have been ordered.")
@click.option("--json", "as_json", is_flag=True, help="Print in JSON where it listens.")
def command(
    host: str | None,
    port: int | None,
    tls: bool | None,
    insecure: bool | None,
    state: Path | None,
    config: Path | None,
    journal: Path | None,
    log_level: str | None,
    settings: tuple[str, ...],
    leave_workers: bool,
    end_workers: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Route reservations and scale fleets, on Vast Serverless's wire.

    The unmodified vastai client, worker framework and command line work against it.
    """
    with uncollected():
        from nullworker.engine.config import ConfigError, load_config
        from nullworker.engine.logs import configure
        from nullworker.engine.server import AtEnd, ServerError, run

    if leave_workers and end_workers:
        raise click.UsageError("Give --leave-workers or --end-workers, not both.")
    at_end = AtEnd.NONE if leave_workers else AtEnd.ALL if end_workers else AtEnd.FREE

    given = {
        "host": host,
        "port": port,
        "tls": tls,
        "insecure": insecure,
        "state": state,
        "journal": journal,
        "log_level": log_level,
    }
    flags = [
        (key, str(value).lower() if isinstance(value, bool) else str(value))
        for key, value in given.items()
        if value is not None
    ]
    flags += [_setting(text) for text in settings]
    own = {
        f"NULLWORKER_ENGINE_{name}"
        for name in ("HOST", "PORT", "TLS", "INSECURE", "STATE", "CONFIG", "JOURNAL", "LOG_LEVEL")
    }
    environ = {name: value for name, value in os.environ.items() if name not in own}
    try:
        loaded = load_config(config, environ, flags)
        for sentence in unusable_consumers(loaded):
            click.echo(f"warning: {sentence}", err=True)
        if dry_run:
            return _dry_run(loaded, environ, as_json=as_json)
        configure(loaded.state, loaded.log_level)
        return run(loaded, environ, lambda server: _say(server, as_json=as_json), at_end=at_end)
    except ServerError as error:
        raise UserError(str(error), error.exit_code) from None
    except ConfigError as error:
        raise UserError(str(error)) from None


def _dry_run(loaded: EngineConfig, environ: dict[str, str], *, as_json: bool) -> int:
    """Runs an engine that orders nothing, in a state directory that is removed after it."""
    from nullworker.engine.dry_run import COMPLAINT, scratch, would
    from nullworker.engine.logs import configure
    from nullworker.engine.server import AtEnd, run

    def show(decision: Decision) -> None:
        line = would(decision)
        if line:
            print(json.dumps(decision._asdict()) if as_json else line, flush=True)

    def ready(server: Server) -> None:
        _say(server, as_json=as_json)
        if not as_json:
            print(COMPLAINT, flush=True)
        server.on_decision(show)

    with scratch(loaded) as config:
        configure(config.state, "error" if config.log_level == "info" else config.log_level)
        return run(config, environ, ready, at_end=AtEnd.NONE, dry_run=True)


def _setting(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise click.BadParameter(f"{text} is not KEY=VALUE", param_hint="--set")
    return key.strip(), value.strip()


def _say(server: Server, *, as_json: bool) -> None:
    from nullworker.client.instances import STATE_VARIABLE, state_directory

    endpoints = [entry.name for entry in server.catalog.endpoints.values()]
    key_file = server.state_dir / "api_key"
    if as_json:
        print(json.dumps({"url": server.url, "api_key_file": str(key_file), "endpoints": endpoints}), flush=True)
        return
    print(f"nullworker engine at {server.url}, endpoints: {', '.join(endpoints) or 'none yet'}", flush=True)
    if server.state_dir != state_directory().absolute():
        print(f"in other terminals: export {STATE_VARIABLE}={shlex.quote(str(server.state_dir))}", flush=True)
    if server.keys.is_new:
        print(f"account key (kept in {key_file}): {server.keys.account_key.reveal()}", flush=True)
