"""Journals of worlds that broke a promise once: the events up to the decisive moment, and what must hold there.

A seed keeps a mistake only as long as its world draws the same random numbers: one more draw at a world's start, and
the same number is another world. The events that led to the mistake stay what they are. So each mistake is kept as a
file in ``journals/``: gzipped JSON lines, of which the first says what went wrong, in which world, and what must hold
(`Must`), and the others are a journal's (`nullworker.core.journal`), without the commands.

A replay needs the core alone. What only the world knew at that moment (who really held the worker) was judged by the
checkers when the journal was recorded, and is kept as what the core must not decide, and must know, at the last event.

``python -m tests.simulation.record`` makes them.
"""

from __future__ import annotations

import gzip
import importlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FOLDER = Path(__file__).with_name("journals")
#: Those of planted bugs (`mutations`).
PLANTED = FOLDER / "planted"
#: What identifies a command, besides its kind; the rest of it is text and figures.
IDS = ("worker_id", "request_idx", "workergroup_id")
#: So many reminders are taken within one event at most.
REMINDERS_MAX = 5_000
EFFECTS = ("Grant", "Refuse", "Create", "Start", "Stop", "Destroy")

#: A command's kind and ids.
Decision = tuple[str, tuple[tuple[str, int], ...]]


@dataclass(frozen=True, slots=True)
class Must:
    """What must hold after the last event. What is not named may be as it likes."""

    #: Commands that the last event must not lead to.
    never: tuple[Decision, ...] = ()
    #: Commands that it must lead to.
    always: tuple[Decision, ...] = ()
    #: Workers as the core must know them: id -> state, what it holds, and whether it may be granted; None: not at all.
    workers: dict[str, Any] = field(default_factory=dict)
    #: Requests: idx -> stage and worker; None: it must be forgotten.
    requests: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Journal:
    """One mistake."""

    name: str
    about: str  # what was wrong
    broke: str  # the promise, or what else told
    said: str  # what the checker said
    world: str  # the line that made the world when it was recorded
    must: Must
    lines: tuple[str, ...] = field(repr=False)


def load(path: Path) -> Journal:
    """Reads a file of ``journals/``."""
    first, *lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    head = json.loads(first)
    must = head.pop("must")
    never, always = (
        tuple((kind, tuple((name, number) for name, number in ids)) for kind, ids in must.get(which, ()))
        for which in ("never", "always")
    )
    return Journal(**head, must=Must(never, always, must["workers"], must["requests"]), lines=tuple(lines))


def save(journal: Journal, folder: Path = FOLDER) -> Path:
    """Writes it; the same journal gives the same bytes."""
    head = asdict(journal)
    del head["lines"]
    path = folder / f"{slug(journal.name)}.jsonl.gz"
    text = "\n".join((json.dumps(head), *journal.lines))
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    return path


def slug(name: str) -> str:
    """A name as a file's."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def without_commands(line: str) -> str:
    """A journal's line with its event alone; what was decided then is of no further use."""
    record = json.loads(line)
    if "commands" in record:
        record["commands"] = []
    return json.dumps(record, separators=(",", ":"))


def replay(lines: Iterable[str]) -> tuple[Any, list[Any]]:
    """Feeds the events to the core that is loaded now: its engine, and what the last event led to.

    Raises:
        InvariantBroken: the core's tables contradicted each other after an event.
        RemindsItself: the core reminded itself without end.
    """
    engine: Any = None
    decided: list[Any] = []
    for engine, decided in steps(lines):  # noqa: B007 - the last is wanted
        pass
    return engine, decided


def steps(lines: Iterable[str]) -> Iterator[tuple[Any, list[Any]]]:
    """The engine after each line, and what the line's event led to. Raises as `replay` does."""
    core_journal = importlib.import_module("nullworker.core.journal")
    check = importlib.import_module("nullworker.core.invariants").check
    engine = _engine()
    for line in lines:
        decided: list[Any] = []
        if core_journal.begun_by(line) is not None:
            engine = _engine()
        else:
            event, now, _ = core_journal.decode(line)
            engine.state.timers.left = REMINDERS_MAX
            decided = engine.handle(event, now)
            check(engine)
        yield engine, decided


class RemindsItself(AssertionError):  # noqa: N818 - it reads as what it is
    """The core takes its own reminders without end within one event."""


def _engine() -> Any:
    """An engine of the core that is loaded now, whose reminders are counted."""
    timers: Any = importlib.import_module("nullworker.core.timers").Timers

    class Counted(timers):  # type: ignore[misc]  # of the core that is loaded now
        left = REMINDERS_MAX

        def pop_due(self, now: float) -> Any:
            self.left -= 1
            if self.left < 0:
                raise RemindsItself(f"{REMINDERS_MAX} reminders within one event")
            return super().pop_due(now)

    return importlib.import_module("nullworker.core.engine").Engine(Counted())


def wrong_with(must: Must, engine: Any, decided: Sequence[Any]) -> list[str]:
    """What does not hold of what must: a line each."""
    made = decisions(decided)
    wrong = [f"{kind} of {dict(ids)} is decided" for kind, ids in must.never if (kind, ids) in made]
    wrong += [f"{kind} of {dict(ids)} is not decided" for kind, ids in must.always if (kind, ids) not in made]
    for worker_id, wanted in must.workers.items():
        known = worker_facts(engine, int(worker_id))
        if known != wanted:
            wrong.append(f"worker {worker_id} is known as {known}, and must be as {wanted}")
    for request_idx, wanted in must.requests.items():
        known = request_facts(engine, int(request_idx))
        if known != wanted:
            wrong.append(f"request {request_idx} is known as {known}, and must be as {wanted}")
    return wrong


def decisions(decided: Iterable[Any]) -> list[Decision]:
    """Kinds and ids of the commands that change something outside the core."""
    return [
        (type(command).__name__, tuple((name, getattr(command, name)) for name in IDS if hasattr(command, name)))
        for command in decided
        if type(command).__name__ in EFFECTS
    ]


def worker_facts(engine: Any, worker_id: int) -> dict[str, Any] | None:
    """What the core knows of a worker, as far as a journal says something about it."""
    worker = engine.state.workers.get(worker_id)
    if worker is None:
        return None
    return {
        "state": worker.state.value,
        "holds": sorted(worker.held),
        "trusted": not worker.trust.unresponsive and not worker.trust.may_hold_unknown,
    }


def request_facts(engine: Any, request_idx: int) -> dict[str, Any] | None:
    """What the core knows of a request."""
    reservation = engine.state.reservations.get(request_idx)
    if reservation is None:
        return None
    return {"stage": reservation.stage.value, "worker": reservation.worker_id}
