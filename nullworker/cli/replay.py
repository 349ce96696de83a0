"""``nullworker replay``: feeds an engine's journal to a fresh core, which must decide the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    from nullworker.core.journal import Replay

#: An event may name thousands of workers (`Restored`).
EVENT_CHARACTERS_MAX = 1_000

EPILOG = """\b
Examples:
  nullworker engine --journal engine.journal
  nullworker replay engine.journal

The core is deterministic: a difference is a bug, or a journal of another version. The exit code is then 1, and also
where the core fails at an event. An engine whose core failed leaves such a file, crash-TIME.journal, in its state."""


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
            replayed = replay(lines)
    except JournalError as error:
        raise UserError(f"{file} is no journal that can be replayed: {error}.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read ({(error.strerror or str(error)).lower()}).") from None
    difference, failure = replayed.difference, replayed.failure
    if as_json:
        found = {"difference": difference and difference._asdict(), "failure": failure and failure._asdict()}
        same = {"events": replayed.handled, "engines": len(begins), "identical": difference is None}
        print(json.dumps({**same, **found}))
    else:
        _show(replayed, begins)
    return 1 if difference is not None or (failure is not None and failure.replayed) else 0


def _show(replayed: Replay, begins: list[str]) -> None:
    difference, failure = replayed.difference, replayed.failure
    if difference is None:
        engines = _counted(max(1, len(begins)))
        print(f"identical: {replayed.handled} events of {engines} led to the same commands again")
    else:
        print(f"line {difference.line}: {difference.event} led to something else than it did then")
        for word, decided in (("then", difference.recorded), ("now", difference.replayed)):
            for each in _without(decided, difference.replayed if word == "then" else difference.recorded):
                print(f"  {word:5}{_told(each)}")
    if failure is not None:
        print(f"line {failure.line}: the core failed at {_shortened(failure.event)}")
        print(f"  then {failure.recorded or 'it did not fail'}")
        print(f"  now  {failure.replayed or 'it does not fail'}")
    if (difference is not None or failure is not None) and any(version != _version() for version in begins):
        print(f"The journal is of version {', '.join(sorted(set(begins)))}, and this is {_version()}.")


def _shortened(text: str) -> str:
    return text if len(text) <= EVENT_CHARACTERS_MAX else text[:EVENT_CHARACTERS_MAX] + "…"


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
