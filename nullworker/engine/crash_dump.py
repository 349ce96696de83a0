"""What an engine leaves when its core fails: a journal of what led to it, which `nullworker replay` reads.

The core's state may be half changed then, so it is not written. Where the engine had not handled more events than are
kept, the dump is all of them, and a replay meets the failure as the engine did. Otherwise the dump has the last of them
as comments, then what the store has (what the next start will adopt) as the events of a start, and the event that
failed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import traceback
from collections import deque
from importlib.metadata import version
from typing import TYPE_CHECKING

from nullworker.core import journal
from nullworker.core.engine import Engine
from nullworker.core.events import EndpointPut, Restored, WorkergroupPut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from nullworker.core.commands import Command
    from nullworker.core.events import Event
    from nullworker.engine.store import Loaded

#: Events that are kept for a dump: the latest of a busy engine, the whole life of one that fails at its start. No more:
#: what is kept is memory that the processor's cache has no room for, and each report would be slower for it.
RECENT_MAX = 100
#: An engine that is started again and again does not fill the disk.
DUMPS_KEPT = 10


class CrashDump:
    """Keeps the last events, and writes them down when the core fails."""

    def __init__(self, state_dir: Path, load: Callable[[], Loaded]) -> None:
        """``load`` reads what the store has."""
        self._state_dir = state_dir
        self._load = load
        self._recent: deque[tuple[Event, float, Sequence[Command]]] = deque(maxlen=RECENT_MAX)

    def add(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Keeps an event that was handled, and what it led to.

        Args:
            event: what was handled.
            now: the core's time then.
            commands: what it led to, in order.
        """
        self._recent.append((event, now, commands))

    def write(self, event: Event, now: float, error: Exception) -> Path:
        """Writes a dump, readable by its owner alone, and removes old ones.

        Args:
            event: at which the core failed.
            now: the core's time then.
            error: what it raised.

        Raises:
            OSError: the file cannot be written.
        """
        at = dt.datetime.now(dt.timezone.utc)
        path = self._state_dir / f"crash-{at:%Y%m%dT%H%M%S}-{at.microsecond:06d}.journal"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in self._lines(event, now, error))
        for old in sorted(self._state_dir.glob("crash-*.journal"))[:-DUMPS_KEPT]:
            with contextlib.suppress(OSError):
                old.unlink()
        return path

    def _lines(self, event: Event, now: float, error: Exception) -> Iterator[str]:
        yield from _comments("".join(traceback.format_exception(error)))
        recent = [journal.encode(*each[:2], list(each[2])) for each in self._recent]
        if len(recent) < RECENT_MAX:  # nothing was dropped yet
            yield journal.begin(version("nullworker"))
            yield from recent
        else:
            yield from _comments(f"The last {len(recent)} events before it:\n" + "\n".join(recent))
            yield from _comments("What the store has, as the events of a start:")
            yield journal.begin(version("nullworker"))
            yield from self._start(now)
        yield journal.encode_failed(event, now, error)

    def _start(self, now: float) -> Iterator[str]:
        engine = Engine()
        try:
            for event in _events_of(self._load()):
                yield journal.encode(event, now, engine.handle(event, now))
        except Exception as error:  # the next start is likely to fail, too: the dump shows where
            yield from _comments("".join(traceback.format_exception(error)))


def _events_of(loaded: Loaded) -> Iterator[Event]:
    for endpoint in loaded.endpoints:
        yield EndpointPut(endpoint.endpoint_id, endpoint.name, endpoint.parameters)
    for group in loaded.workergroups:
        yield WorkergroupPut(group.config.to_core(group.workergroup_id, group.endpoint_id))
    yield Restored(loaded.next_worker_id, tuple(loaded.workers), tuple(loaded.reservations))


def _comments(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"# {line}"
