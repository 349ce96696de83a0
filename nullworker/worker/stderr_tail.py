"""What a supervisor reports of its command: what is left of it, and the end of its standard error.

`last_line` makes the latter fit to be reported: one line, short, without secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.wire.printable import one_line
from nullworker.wire.redaction import from_others, mask_environment
from nullworker.worker.supervisor_main import STDERR_TAIL_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

CHARACTERS_MAX = 200


def last_line(written: bytes, env: Mapping[str, str]) -> str:
    """The last line of ``written`` that is not blank, with what is secret in it masked; "" if there is none.

    Args:
        written: the end of the command's standard error.
        env: the command's environment, whose secrets are masked.
    """
    lines = [one_line(line) for line in written.decode(errors="replace").splitlines()]
    line = next((line for line in reversed(lines) if line), "")
    if line and line == lines[0] and len(written) >= STDERR_TAIL_BYTES:
        line = line.partition(" ")[2]  # its first word may be the end of a secret, which would not be recognised
    line = from_others(mask_environment(line, env))
    return line if len(line) <= CHARACTERS_MAX else line[: CHARACTERS_MAX - 1] + "…"


@dataclass(frozen=True, slots=True)
class Report:
    """What a supervisor writes at its end."""

    left: tuple[str, ...] = ()  # processes that survived SIGKILL, in words
    is_busy: bool = False  # another supervisor runs a command for the same reservation
    written: bytes = b""  # the end of the command's standard error


class ReportPipe:
    """A pipe to which a supervisor process writes its report."""

    def __init__(self) -> None:
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)

    def read(self) -> Report | None:
        """The report, once the supervisor has ended; None if it was killed before. Closes the pipe."""
        sent = b""
        with contextlib.suppress(BlockingIOError):
            sent = os.read(self._read, 65_536)
        self.close()
        line, newline, written = sent.partition(b"\n")
        if not newline:
            return None
        facts = json.loads(line)
        return Report(tuple(facts["left"]), facts["is_busy"], written)

    def close(self) -> None:
        """Closes the pipe. A second call does nothing."""
        for end in (self._read, self.write_end):
            if end >= 0:
                os.close(end)
        self._read = self.write_end = -1
