"""Reads a queue's URL: every part checked, no unknown parameter passed over, the password never shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from nullworker.queues.base import QueueUrlError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class QueueUrl:
    """The parts of a queue's URL, percent-decoded. ``shown`` is the URL as a message may show it."""

    scheme: str
    host: str
    port: int | None
    username: str | None
    password: str | None = field(repr=False)
    path: str
    parameters: Mapping[str, str] = field(repr=False)
    shown: str

    def text(self, name: str, default: str | None = None) -> str:
        """The parameter ``name``, which must not be empty.

        Raises:
            QueueUrlError: it is missing and has no default, or it is empty.
        """
        value = self.parameters.get(name, default)
        if not value:
            raise QueueUrlError(f"{self.shown}: the URL needs {name}=… after the question mark.")
        return value

    def seconds(self, name: str, default: float) -> float:
        """The parameter ``name`` as a positive number of seconds.

        Raises:
            QueueUrlError: it is no positive number.
        """
        value = self.parameters.get(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf"):
            raise QueueUrlError(f"{self.shown}: {name} should be a positive number of seconds, not {value!r}.")
        return number


def parse_url(url: str, *, parameters: Collection[str]) -> QueueUrl:
    """Splits ``url`` and checks its parameters against the names that the adapter knows.

    Raises:
        QueueUrlError: it is not a URL, or has a parameter that is not in ``parameters``, or one twice.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        # The error's own words may hold a part of the URL, and that may be the password: so they are not repeated.
        shown = url.partition("://")[0] + "://…"
        raise QueueUrlError(
            f"{shown}: this is not a URL (scheme://user:password@host:port/path?name=value)."
        ) from error
    beyond = parts.path + parts.fragment + "".join(name for name, _ in pairs)
    if parts.netloc and "@" not in parts.netloc and "@" in beyond:  # the rest of a password, most likely
        raise QueueUrlError(f"{parts.scheme}://…: in a user's name or password, write / ? # @ : and % percent-encoded.")
    shown = _shown(url, parts.netloc)
    if parts.fragment:
        raise QueueUrlError(f"{shown}: a # in a queue's URL must be written %23.")
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in parameters:
            known = ", ".join(sorted(parameters)) or "none"
            raise QueueUrlError(f"{shown}: unknown parameter {name!r} (known: {known}).")
        if name in found:
            raise QueueUrlError(f"{shown}: the parameter {name!r} is there twice.")
        found[name] = value
    return QueueUrl(
        scheme=parts.scheme.lower(),
        host=parts.hostname or "",
        port=port,
        username=unquote(parts.username) if parts.username is not None else None,
        password=unquote(parts.password) if parts.password is not None else None,
        path=unquote(parts.path),
        parameters=found,
        shown=shown,
    )


def _shown(url: str, netloc: str) -> str:
    """The URL with the password hidden."""
    scheme, _, after = url.partition("://")
    userinfo, at, host = netloc.rpartition("@")
    if not at:
        return url
    user, colon, _ = userinfo.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}@{host}{after[len(netloc) :]}"
