"""A journal: one line for each event with its time and the commands that it led to; and the proof that a fresh engine,
fed with the events, gives the same commands.

A line is JSON: ``{"now": seconds, "event": [kind, {field: value}], "commands": [[kind, {field: value}], ...]}``; or
``{"begin": version, "format": number}``, where an engine was started (again). An event at which the core raised an
exception has ``"failed": "Type: message"`` in place of its commands. A line that begins with ``#`` is for people.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from typing import TYPE_CHECKING, Any, NamedTuple

from nullworker.core import commands, events, parameters
from nullworker.core.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.core.commands import Command
    from nullworker.core.events import Event


#: Of the lines; raised when what a line says changes. Format 1 had no causes.
FORMAT = 2


class JournalError(ValueError):
    """A line of a journal cannot be read; the message names the line and what is wrong with it."""


class Difference(NamedTuple):
    """A fresh engine decided otherwise than the journal says."""

    line: int
    event: str
    recorded: list[Any]
    replayed: list[Any]


class Failure(NamedTuple):
    """An event at which the core raised an exception, when it was recorded or in this replay."""

    line: int
    event: str
    recorded: str  # "Type: message"; "": it did not raise then
    replayed: str  # "": it does not raise now


class Replay(NamedTuple):
    """What came of a replay."""

    handled: int  # events that led to what the journal says
    difference: Difference | None  # the first; nothing after it was replayed
    failure: Failure | None  # the last


def encode(event: Event, now: float, decided: list[Command]) -> str:
    """One line (without its end) for an event handled at ``now`` and what it led to."""
    record = {"now": now, "event": _pack(event), "commands": [_pack(command) for command in decided]}
    return json.dumps(record, separators=(",", ":"))


def decode(line: str) -> tuple[Event, float, list[Any]]:
    """The event, its time and the packed commands of one line (none, where the core failed at the event).

    Raises:
        JournalError: the line is no line of a journal.
    """
    event, now, decided, _ = _read(line)
    return event, now, decided


def _read(line: str) -> tuple[Event, float, list[Any], str]:
    """As `decode`, with what the core raised at the event; "": nothing."""
    try:
        record = json.loads(line)
        failed = str(record.get("failed", ""))
        decided = [] if failed else list(record["commands"])
        return unpack_event(*record["event"]), float(record["now"]), decided, failed
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JournalError(f"not a journal's line: {error}") from error


def unpack_event(kind: str, values: dict[str, Any]) -> Event:
    """The event of a ``kind`` (the name of its class) with the ``values`` of its fields.

    Raises:
        ValueError, KeyError, TypeError: they are no event's.
    """
    event: Event = _unpack(_EVENTS[kind], values)
    return event


def begin(version: str) -> str:
    """The line with which an engine of ``version`` begins: what follows is from a fresh one."""
    return json.dumps({"begin": version, "format": FORMAT}, separators=(",", ":"))


def encode_failed(event: Event, now: float, error: Exception) -> str:
    """One line (without its end) for an event at which the core raised ``error``."""
    return json.dumps({"now": now, "event": _pack(event), "failed": described(error)}, separators=(",", ":"))


def described(error: Exception) -> str:
    """An exception in one line: its type and its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def replay(lines: Iterable[str]) -> Replay:
    """Feeds a journal to a fresh engine, until it decides otherwise than the journal says.

    At each `begin` another engine takes over, as it did then. A line that is torn (its writer was killed) is passed
    over where nothing follows, or a new beginning; so is what follows an event at which the core failed.

    Raises:
        JournalError: any other line cannot be read.
    """
    engine: Engine | None = Engine()
    handled = 0
    failure: Failure | None = None
    broken: JournalError | None = None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        if begun_by(line) is not None:
            _check_format(number, line)
            engine, broken = Engine(), None
            continue
        if broken is not None:
            raise broken
        if engine is None:
            continue
        try:
            event, now, recorded, failed = _read(line)
        except JournalError as error:
            broken = JournalError(f"line {number}: {error}")
            continue
        raised = ""
        try:
            replayed = json.loads(json.dumps([_pack(command) for command in engine.handle(event, now)]))
        except Exception as error:
            raised, replayed = described(error), []
        if failed or raised:
            failure, engine = Failure(number, repr(event), failed, raised), None
            continue
        handled += 1
        if replayed != recorded:
            return Replay(handled, Difference(number, type(event).__name__, recorded, replayed), failure)
    return Replay(handled, None, failure)


def begun_by(line: str) -> str | None:
    """The version of the engine that begins with this line; None where none does."""
    if not line.startswith('{"begin":'):
        return None
    try:
        return str(json.loads(line)["begin"])
    except ValueError:
        return None


def _check_format(number: int, line: str) -> None:
    written = json.loads(line)
    if written.get("format", 1) != FORMAT:
        raise JournalError(
            f"line {number}: nullworker {written['begin']} wrote it in format {written.get('format', 1)}, and this one "
            f"reads format {FORMAT}; replay it with the version that wrote it"
        )


def _pack(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        names = _names(type(value))
        packed = {name: _pack(getattr(value, name)) for name in names}
        return [type(value).__name__, packed] if type(value) in _TAGGED else packed
    if isinstance(value, tuple):
        return [_pack(item) for item in value]
    return value


def _names(kind: Any) -> list[str]:
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = [field.name for field in dataclasses.fields(kind)]
    return names


def _unpack(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if origin is tuple:
        inner = typing.get_args(kind)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_unpack(inner[0], item) for item in value)
        return tuple(_unpack(part, item) for part, item in zip(inner, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _unpack(next(part for part in typing.get_args(kind) if part is not type(None)), value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _unpack(hints[name], item) for name, item in value.items()})  # type: ignore[operator]  # a dataclass is callable
    return value


_EVENTS: dict[str, Any] = {kind.__name__: kind for kind in typing.get_args(events.Event)}
_TAGGED: frozenset[Any] = frozenset([*_EVENTS.values(), *typing.get_args(commands.Command)])
_NAMES: dict[Any, list[str]] = {parameters.Parameters: [f.name for f in dataclasses.fields(parameters.Parameters)]}
