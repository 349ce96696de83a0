"""What consumers on this machine printed, as it is in the logs of their workers.

A worker's log has its own lines (time and level first) and, between them, what its consumers print as it is. The log of
a worker that exists is with its instance, that of a destroyed one under ``logs`` of the engine's state directory.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

FOLLOW_S = 0.5
_OWN = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ (?P<says>.*)$")
_STARTED = re.compile(
    r"^consumer started under process \d+ for request (?P<request>\d+)(?: with payload (?P<payload>.*))?$"
)
_ENDED = re.compile(r"^(consumer of request \d+ ended|consumer stopped)")


def logs_of(state: Path, worker_id: int) -> list[Path]:
    """The files of one worker's log, the older part first."""
    files = [*state.glob(f"fleets/*/*/{worker_id}/worker.log.1"), *state.glob(f"fleets/*/*/{worker_id}/worker.log")]
    return files or list(state.glob(f"logs/*/worker-{worker_id}.log"))


def all_logs(state: Path) -> list[Path]:
    """Those of all workers, in the order in which they were written last."""
    patterns = ("fleets/*/*/*/worker.log.1", "fleets/*/*/*/worker.log", "logs/*/worker-*.log")
    return sorted((path for pattern in patterns for path in state.glob(pattern)), key=lambda path: path.stat().st_mtime)


def lines_of(files: Iterable[Path]) -> Iterator[str]:
    """The lines of files, without their ends."""
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as log:
            yield from (line.rstrip("\n") for line in log)


def printed(lines: Iterable[str]) -> Iterator[str]:
    """What consumers printed, and the lines that say when each began and ended; a worker's other lines are left out."""
    for line in lines:
        own = _OWN.match(line)
        if own is None or _STARTED.match(own["says"]) or _ENDED.match(own["says"]):
            yield line


@dataclass
class Run:
    """One run of a consumer, under one reservation."""

    request: str
    payload: str  # empty where there is none
    lines: list[str]  # what it printed, between the lines of its beginning and end

    def names(self, job: str) -> bool:
        """Whether its payload has this text, or a line that it printed."""
        return job in self.payload or any(job in line for line in self.lines if not _OWN.match(line))


def runs(lines: Iterable[str]) -> Iterator[Run]:
    """The runs of consumers in a worker's log, in their order; the last one may go on."""
    run: Run | None = None
    for line in printed(lines):
        own = _OWN.match(line)
        started = own and _STARTED.match(own["says"])
        if started:
            if run is not None:
                yield run
            run = Run(started["request"], started["payload"] or "", [])
        if run is None:
            continue
        run.lines.append(line)
        if own and not started:
            yield run
            run = None
    if run is not None:
        yield run


def follow(state: Path, worker_id: int, pause: Callable[[float], object] = time.sleep) -> Iterator[str]:
    """The lines of a worker's log as they come, until its worker is destroyed.

    Args:
        state: the engine's state directory.
        worker_id: of the worker.
        pause: waits for so many seconds between two looks.

    Raises:
        UserError: there is no such worker.
    """
    files = logs_of(state, worker_id)
    if not files:
        raise no_log(state, worker_id)
    yield from lines_of(files[:-1])
    path, offset, unfinished = files[-1], 0, b""
    while True:
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return  # it was moved when its worker was destroyed
        if size < offset:
            yield "[nullworker] the log was cut here"
            offset, unfinished = 0, b""
        with path.open("rb") as log:
            log.seek(offset)
            more = log.read()
        offset += len(more)
        *whole, unfinished = (unfinished + more).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
        if path.parent.parent == state / "logs":
            return
        pause(FOLLOW_S)


def no_log(state: Path, worker_id: int) -> UserError:
    """What to say where there is no log of a worker."""
    return UserError(
        f"There is no log of worker {worker_id} under {state}: its number may be wrong, or its engine has another "
        "state directory (--state) or runs on another machine, where its logs are."
    )
