"""``nullworker doctor``: checks this machine, its engine, workers and queues, and says what to do.

`machine` and `peers` gather `facts`; `checks` judges them, each check a small function of the facts alone. `places`
asks fleets what they would create.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nullworker.cli.doctor import checks, machine, peers, places
from nullworker.cli.doctor.checks import Finding, Level
from nullworker.cli.doctor.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.engine.config import EngineConfig

EPILOG = """\b
Examples:
  nullworker doctor
  nullworker doctor --config /etc/nullworker/nullworker.toml
  nullworker doctor --config nullworker.toml --fleet vast
  nullworker doctor --queue 'celery+redis://localhost/0?queue=celery' --json

It changes nothing. The exit code is 0, or 1 when something is wrong; a warning alone is not."""

_SIGNS = {Level.OK: "ok     ", Level.WARNING: "warning", Level.WRONG: "wrong  "}


@click.command("doctor", epilog=EPILOG)
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="The engine's configuration file.")
@click.option("--state", type=click.Path(path_type=Path), help="The engine's state directory.")
@click.option("--instance", metavar="local|URL", help="The engine  [default: where --config has it, else local]")
@click.option("--api-key", help="A key of role read or more; else VAST_API_KEY, else the local engine's own.")
@click.option("--queue", "queues", multiple=True, metavar="URL", help="A queue to read, beside those of --config.")
@click.option(
    "--fleet", "fleets", multiple=True, metavar="NAME", help="Only ask this fleet's place what it would create now."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    config: Path | None, state: Path | None, instance: str | None, api_key: str | None, queues: tuple[str, ...],
    fleets: tuple[str, ...], as_json: bool,
) -> int:  # fmt: skip
    """Check versions, state directory, disk, clock, limits, init, systemd's unit, and the reach of engine, workers
    and queues.
    """
    if fleets:
        found = places.examine(config, state, fleets)
    else:
        found = checks.examine(gather(config, state, instance, api_key, queues))
    is_wrong = any(each.level is Level.WRONG for each in found)
    if as_json:
        rows = [{**each._asdict(), "level": each.level.value} for each in found]
        print(json.dumps({"ok": not is_wrong, "findings": rows}, indent=2))
    else:
        _show(found)
    return 1 if is_wrong else 0


def gather(
    config: Path | None, state: Path | None, instance: str | None, api_key: str | None, queues: Sequence[str]
) -> Facts:
    """All facts.

    Args:
        config: the configuration file, if there is one.
        state: the state directory; None: as the configuration, else the environment, has it.
        instance: the engine; None: where the configuration has it.
        api_key: the key; None: it is found.
        queues: URLs of queues to read, beside the configuration's.
    """
    from nullworker.client.instances import state_directory

    loaded, config_error = _loaded(config)
    if state is None:
        state = state_directory() if loaded is None else loaded.state
    if instance is None:
        instance = "local" if loaded is None or not loaded.port else _url_of(loaded)
    urls, queue_error = _queues_of(config)
    directory = machine.state(state)
    return Facts(
        version=machine.version(),
        python=machine.python(),
        packages=machine.packages(),
        state=directory,
        engine=peers.engine(instance, api_key, state, _wall_s),
        year=machine.year(),
        clock_is_synchronised=machine.clock_is_synchronised(),
        open_files=machine.open_files(),
        init=machine.init(),
        unit=machine.unit(directory.engine_pid),
        config_error=config_error or queue_error,
        queues=peers.queues([*urls, *queues]),
    )


def _loaded(config: Path | None) -> tuple[EngineConfig | None, str]:
    from nullworker.engine.config import ConfigError, load_config

    if config is None:
        return None, ""
    try:
        return load_config(config), ""
    except ConfigError as error:
        return None, str(error)


def _url_of(loaded: EngineConfig) -> str:
    host = "127.0.0.1" if loaded.host in ("0.0.0.0", "::", "") else loaded.host  # noqa: S104 - compared only
    return f"http://{f'[{host}]' if ':' in host else host}:{loaded.port}"


def _queues_of(config: Path | None) -> tuple[list[str], str]:
    from nullworker.dispatch.settings import DispatchSettingsError
    from nullworker.dispatch.settings_file import load_settings

    if config is None or "[dispatch" not in _text(config):
        return [], ""
    try:
        return [binding.queue for binding in load_settings(config).bindings], ""
    except DispatchSettingsError as error:
        return [], str(error)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _wall_s() -> float:
    return time.time()  # noqa: TID251 - compared with the engine's


def _show(found: Sequence[Finding]) -> None:
    width = max(len(each.check) for each in found)
    for each in found:
        print(f"{_SIGNS[each.level]}  {each.check:<{width}}  {each.what}")
        if each.advice:
            print(f"{'':7}  {'':{width}}  {each.advice}")
    counts = {level: sum(each.level is level for each in found) for level in Level}
    if counts[Level.WRONG] or counts[Level.WARNING]:
        print(f"{counts[Level.WRONG]} wrong, {counts[Level.WARNING]} to look at.")
    else:
        print("All is well.")
