"""The last line that a command wrote to standard error, fit to be told to others: one line, short, nothing secret."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nullworker.worker.supervisor_main import STDERR_TAIL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CHARACTERS_MAX = 200
MASK = "***"
#: Parts of the names of variables whose values are nobody's business.
_SECRET_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH|COOKIE|SIGNATURE|DSN|CONNECTION_STRING", re.IGNORECASE
)
#: Names of variables that say where something is: the line may be about it.
_PLACE_NAME = re.compile(r"(SOCK|FILE|PATH|DIR|ASKPASS|XAUTHORITY|^PWD|^OLDPWD)$", re.IGNORECASE)
#: Shorter values are words that occur anywhere: masking them would hide nothing and spoil the line.
_SECRET_CHARACTERS_MIN = 5
_IN_URL = re.compile(r"(?<=://)[^\s/@]*:[^\s/]*@")  # user:password@, also with an @ in the password
_LOOKS_SECRET = re.compile(
    r"(?i:(?<=bearer )|(?<=basic ))\S+"
    r"|(?<=[?&])[\w.-]*(?i:key|token|secret|sig|passw)[\w.-]*=[^\s&]+"
    r"|\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"  # a JWT
    r"|\bAKIA[0-9A-Z]{12,}|\b[0-9a-fA-F]{40,}\b|\b[A-Za-z0-9+/_-]{80,}={0,2}"
)


def last_line(written: bytes, env: Mapping[str, str]) -> str:
    """The last line of ``written`` that says anything, with what is secret in ``env`` masked; "" if there is none."""
    lines = [_printable(line) for line in written.decode(errors="replace").splitlines()]
    line = next((line for line in reversed(lines) if line), "")
    if line and line == lines[0] and len(written) >= STDERR_TAIL_BYTES:
        line = line.partition(" ")[2]  # its first word may be the end of a secret that is not known by that
    # The longest first: one may be a part of another.
    for secret in sorted(_secrets(env), key=len, reverse=True):
        line = line.replace(secret, MASK)
    line = _LOOKS_SECRET.sub(MASK, _IN_URL.sub(f"{MASK}@", line))
    return line if len(line) <= CHARACTERS_MAX else line[: CHARACTERS_MAX - 1] + "…"


def _printable(line: str) -> str:
    return " ".join("".join(character if character.isprintable() else " " for character in line).split())


def _secrets(env: Mapping[str, str]) -> Iterator[str]:
    for name, text in env.items():
        value = _printable(text)  # as the line is
        found = _password(value)
        if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name):
            found.append(value)
        yield from (each for each in found if len(each) >= _SECRET_CHARACTERS_MIN)


def _password(value: str) -> list[str]:
    """That of a URL, as it is written there and as it is sent."""
    try:
        password = urlsplit(value).password or ""
    except ValueError:
        return []
    return [password, unquote(password)]


class StderrTail:
    """A pipe to which a supervisor process writes the end of its command's standard error."""

    def __init__(self) -> None:
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)

    def line(self, env: Mapping[str, str]) -> str:
        """As `last_line`, once the supervisor has ended; closes the pipe."""
        written = b""
        with contextlib.suppress(BlockingIOError):  # the supervisor was killed before it could write
            written = os.read(self._read, 65_536)
        self.close()
        return last_line(written, env)

    def close(self) -> None:
        """Lets go of the pipe. Twice is no error."""
        for end in (self._read, self.write_end):
            if end >= 0:
                os.close(end)
        self._read = self.write_end = -1
