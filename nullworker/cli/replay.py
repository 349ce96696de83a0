"""``nullworker replay``: feeds an engine's journal to a fresh core, which must decide the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from nullworker.cli.errors import UserError

EPILOG = """\b
Examples:
  nullworker engine --journal engine.journal
  nullworker replay engine.journal

The core is deterministic: a difference is a bug, or a journal of another version. The exit code is then 1."""


@click.command("replay", epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(file: Path, as_json: bool) -> int:
    """Feed FILE, an engine's journal, to a fresh engine, and compare what it decides with what was decided then."""
    from nullworker.core.journal import JournalError, begun_by, replay

    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            begins = [version for line in lines if (version := begun_by(line)) is not None]
            lines.seek(0)
            handled, difference = replay(lines)
    except JournalError as error:
        raise UserError(f"{file} is no journal that can be replayed: {error}.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({(error.strerror or str(error)).lower()}).") from None
    if as_json:
        found = None if difference is None else difference._asdict()
        print(json.dumps({"events": handled, "engines": len(begins), "identical": found is None, "difference": found}))
    elif difference is None:
        print(f"identical: {handled} events of {_counted(max(1, len(begins)))} led to the same commands again")
    else:
        print(f"line {difference.line}: {difference.event} led to something else than it did then")
        for word, decided in (("then", difference.recorded), ("now", difference.replayed)):
            for each in _without(decided, difference.replayed if word == "then" else difference.recorded):
                print(f"  {word:5}{_told(each)}")
        own = _version()
        if any(version != own for version in begins):
            print(f"The journal is of version {', '.join(sorted(set(begins)))}, and this is {own}.")
    return 0 if difference is None else 1


def _counted(engines: int) -> str:
    return "one engine" if engines == 1 else f"{engines} engines, one after another,"


def _without(decided: list[Any], others: list[Any]) -> list[Any]:
    """What is in one list only; both, where only the order differs."""
    return [each for each in decided if each not in others] or decided


def _told(command: list[Any]) -> str:
    kind, fields = command
    return f"{kind}({', '.join(f'{name}={value!r}' for name, value in fields.items())})"


def _version() -> str:
    from importlib.metadata import version

    return version("nullworker")
