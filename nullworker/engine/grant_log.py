"""Every grant, written down before it is answered: one line and one write, which the kernel keeps if we are killed.

The store's tables follow within a fraction of a second. Each line has a number, and the tables know up to which number
they have all that came of it: only lines beyond it count at the next start. There is no fsync: a power failure takes
the workers of this machine with it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from pathlib import Path

#: A file that has grown to this is followed by a new one, and deleted when the tables have all of it.
FILE_BYTES_MAX = 256 * 1024

log = logging.getLogger(__name__)


class GrantLine(NamedTuple):
    """A line of the log. With ``request_idx`` 0 it says that request places below ``cost`` are spoken for."""

    seq: int
    request_idx: int
    endpoint_id: int
    worker_id: int
    cost: float


_decoder = msgspec.json.Decoder(GrantLine)
_encoder = msgspec.json.Encoder()


class GrantLog:
    """The log, in files ``grants-N.log`` of one directory; used by one thread."""

    def __init__(self, state_dir: Path) -> None:
        """Begins a new file behind those that are there."""
        self._dir = state_dir
        self._old = _files(state_dir)  # in their order
        self._number = _number(self._old[-1]) if self._old else 0
        self._fd = -1
        self._bytes = 0
        self._torn = False
        #: Why the last line could not be written; "": it was.
        self.error = ""
        self.last_seq = 0
        self._begin_file()

    @property
    def old_files(self) -> list[Path]:
        """The files that were there, to be deleted once the tables have all that is in them."""
        return list(self._old)

    def forget_old_files(self) -> None:
        """They are deleted."""
        self._old = []

    def read(self) -> list[GrantLine]:
        """The lines of the files that were there, in their order. What is torn or damaged is left out."""
        lines: list[GrantLine] = []
        for path in self._old:
            for text in path.read_bytes().split(b"\n"):
                try:
                    lines.append(_decoder.decode(text))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    if text:
                        log.warning("a damaged line of %s is left out", path, extra={"action": "grant_line_damaged"})
        self.last_seq = max([self.last_seq, *(line.seq for line in lines)])
        return lines

    def append(self, request_idx: int, endpoint_id: int, worker_id: int, cost: float) -> int:
        """Writes one line down; returns its number. If it cannot be written, `error` says why, and the grant stands."""
        self.last_seq += 1
        line = _encoder.encode((self.last_seq, request_idx, endpoint_id, worker_id, cost)) + b"\n"
        if self._torn:
            line = b"\n" + line
        try:
            self._torn = os.write(self._fd, line) != len(line)
        except OSError as error:
            if not self.error:
                log.error("the grant log cannot be written: %s", error, extra={"action": "grant_log_failed"})  # noqa: TRY400 - the cause is the disk, and where we are is no news
            self.error = str(error)
        else:
            self._bytes += len(line)
            self.error = ""
        return self.last_seq

    @property
    def is_full(self) -> bool:
        """Whether it is time to `turn_over`."""
        return self._bytes >= FILE_BYTES_MAX

    def turn_over(self) -> list[Path]:
        """Begins a new file; returns those before it, to be deleted once the tables have all that is in them."""
        done, fd = self._path(), self._fd
        try:
            self._begin_file()
        except StateError as error:
            log.error("%s", error, extra={"action": "grant_log_failed"})  # noqa: TRY400 - as in append
            self._bytes = 0  # the next try is a file's length away
            return []
        os.close(fd)
        old, self._old = [*self._old, done], []
        return old

    def close(self) -> None:
        """Closes the log; once more is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _path(self) -> Path:
        return self._dir / f"grants-{self._number}.log"

    def _begin_file(self) -> None:
        path = self._dir / f"grants-{self._number + 1}.log"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise StateError(f"The grant log {path} cannot be written ({why}).") from None
        self._number += 1
        self._bytes, self._torn = 0, False


def _files(state_dir: Path) -> list[Path]:
    found = [path for path in state_dir.glob("grants-*.log") if path.stem.removeprefix("grants-").isdigit()]
    return sorted(found, key=_number)


def _number(path: Path) -> int:
    return int(path.stem.removeprefix("grants-"))
