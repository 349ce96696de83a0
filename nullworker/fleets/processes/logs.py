"""Limits the size of workers' logs, and reads their last line.

A worker appends to its log itself, so that logging continues while no engine runs. Once a second the fleet checks each
log: when it takes more than half of what is allowed on disk, its end becomes ``worker.log.1`` (an older one is dropped)
and the log is emptied; a line marks where something was cut. A log thus takes at most what is allowed, plus what its
worker can write in a second; while no engine runs, it is not checked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from nullworker.wire.printable import one_line

if TYPE_CHECKING:
    from pathlib import Path

#: A message quotes at most this much of a log's last line.
LINE_CHARACTERS_MAX = 200
#: Begins the line of a log that stands where older ones were cut.
CUT_MARK = "[nullworker]"
_TAIL_BYTES = 4096
_BLOCK_BYTES = 512  # what st_blocks counts in, whatever the file system's own blocks are


def trim(path: Path, bytes_max: int) -> bool:
    """Moves a log that has grown too large to ``<name>.1`` and empties it. Returns whether it did. Raises OSError.

    Lines written in the instant between are lost.
    """
    half = bytes_max // 2
    status = path.stat()
    # Blocks, not length: a worker that opened its log again by itself writes past a hole after the first trim.
    if min(status.st_blocks * _BLOCK_BYTES, status.st_size) <= half:
        return False
    try:
        _keep_tail(path, half)
    finally:  # also when the disk is full
        os.truncate(path, 0)
    return True


def _keep_tail(path: Path, bytes_max: int) -> None:
    older, temporary = _older(path), path.with_name(f".{path.name}.1")
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        dropped = max(0, size - bytes_max) + (older.stat().st_size if older.exists() else 0)
        mark = f"{CUT_MARK} {dropped} bytes or more were cut here\n".encode() if dropped else b""
        log.seek(-min(bytes_max - len(mark), size), os.SEEK_CUR)
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as kept:
                kept.write(mark + log.read(bytes_max - len(mark)))
            temporary.replace(older)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def keep(path: Path, kept: Path, kept_max: int) -> None:
    """Moves the log of a destroyed worker to ``kept``, in one piece, and removes the oldest of those beside it.

    No error when there is no log.

    Args:
        path: the log; an older part of it may be beside it.
        kept: where it goes.
        kept_max: how many logs the folder of ``kept`` may hold.

    Raises:
        OSError: it cannot be moved.
    """
    if not path.exists():
        return
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    older = _older(path)
    if older.exists():
        with path.open("rb") as newest, older.open("ab") as whole:
            shutil.copyfileobj(newest, whole)
        older.replace(kept)
    else:
        path.replace(kept)
    _remove_oldest(kept.parent, kept_max)


def _remove_oldest(directory: Path, kept_max: int) -> None:
    by_age: list[tuple[int, Path]] = []
    for path in directory.glob("*.log"):
        with contextlib.suppress(FileNotFoundError):  # several threads may do this at once
            by_age.append((path.stat().st_mtime_ns, path))
    by_age.sort()
    for _, path in by_age[: max(0, len(by_age) - kept_max)]:
        path.unlink(missing_ok=True)


def read_end(path: Path, bytes_max: int) -> bytes:
    """The last bytes of a log, ``bytes_max`` at most. Raises OSError."""
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - bytes_max))
        return log.read(bytes_max)


def last_line(path: Path, since: int, secret: str) -> str:
    """The last line that a worker printed after the offset ``since`` bytes, fit to be quoted; empty if there is none.

    Args:
        path: the log.
        since: offset in bytes where the present run began.
        secret: replaced by ``***`` in the line.
    """
    try:
        with path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            begin = max(since if since <= size else 0, size - _TAIL_BYTES)
            log.seek(begin)
            tail = log.read(_TAIL_BYTES).decode(errors="replace").replace(secret or "\0", "***")
    except OSError:
        return ""
    if begin > since:  # the tail may begin in the middle of the secret
        tail = tail[len(secret) :]
    lines = [line.strip() for line in tail.splitlines() if line.strip(" \t\0")]
    if not lines:
        return ""
    line = one_line(lines[-1])
    return line if len(line) <= LINE_CHARACTERS_MAX else line[:LINE_CHARACTERS_MAX] + "…"


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")
