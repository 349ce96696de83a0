"""Reads a queue's URL: every part checked, no unknown parameter passed over, no secret ever shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from nullworker.queues.base import QueueUrlError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from nullworker.queues.connections import Connections

#: Values of parameters with such names are not shown.
SECRET_NAME = re.compile(r"pass|secret|token|credential|access|seed|dsn", re.IGNORECASE)
#: Shorter secrets are not looked for in other texts: they would be found in every second word.
SECRET_CHARACTERS_MIN = 4
_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[\w.%-]+)?\]|[^\[\]:@,;=\s]*)(?::(?P<port>[0-9]{0,5}))?")
#: The start of a further server, where each has the whole URL's form: ``…;sentinel://host2`` or ``…,nats://host2``.
_FURTHER = re.compile(r"[;,](?=[A-Za-z][A-Za-z0-9+.-]*://)")
_PORT_MAX = 65535
#: The user of a URL that is the value of a parameter.
_USER = re.compile(r"://[^/@&]*@|%3a%2f%2f[^/@&]*(?:@|%40)", re.IGNORECASE)


class Host(NamedTuple):
    """A server of a URL. IPv6 addresses are without their brackets; ``port`` is None where the URL has none."""

    name: str
    port: int | None


@dataclass(frozen=True, slots=True)
class QueueUrl:
    """The parts of a queue's URL, percent-decoded. ``shown`` is the URL as a message may show it."""

    scheme: str
    host: str
    port: int | None
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    path: str
    parameters: Mapping[str, str] = field(repr=False)
    shown: str
    #: All servers that the URL names; ``host`` and ``port`` are the first one's.
    hosts: tuple[Host, ...] = ()
    #: The path as it was written, percent-encoded.
    raw_path: str = ""

    @property
    def transport(self) -> str:
        """What follows the first plus of the scheme, or nothing."""
        return self.scheme.partition("+")[2]

    def text(self, name: str, default: str | None = None) -> str:
        """The parameter ``name``, which must not be empty.

        Raises:
            QueueUrlError: it is missing and has no default, or it is empty.
        """
        value = self.parameters.get(name, default)
        if not value:
            raise QueueUrlError(f"{self.shown}: the URL needs {name}=… after the question mark.")
        return value

    def seconds(self, name: str, default: float, *, can_be_zero: bool = False) -> float:
        """The parameter ``name`` as a positive number of seconds.

        Raises:
            QueueUrlError: it is no positive number, nor zero where that can be.
        """
        value = self.parameters.get(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 < number < float("inf") and not (can_be_zero and number == 0):
            kind = "a number of seconds" if can_be_zero else "a positive number of seconds"
            raise QueueUrlError(f"{self.shown}: {name} should be {kind}, not {value!r}.")
        return number

    def count(self, name: str) -> int | None:
        """The parameter ``name`` as a positive number of things; None where it is missing.

        Raises:
            QueueUrlError: it is no positive number.
        """
        value = self.parameters.get(name)
        if value is not None and (not value.isdecimal() or int(value) == 0):
            raise QueueUrlError(f"{self.shown}: {name} should be a positive number, not {value!r}.")
        return None if value is None else int(value)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Whether the parameter ``name`` is true; ``default`` where it is missing.

        Raises:
            QueueUrlError: it is neither true nor false.
        """
        value = self.text(name, str(default)).lower()
        if value not in {"true", "1", "false", "0"}:
            raise QueueUrlError(f"{self.shown}: {name} should be true or false, not {value!r}.")
        return value in {"true", "1"}

    def hidden(self, text: str, *others: str | None) -> str:
        """A text of a library, with the secrets of this URL, and ``others``, hidden."""
        secrets = (value for name, value in self.parameters.items() if SECRET_NAME.search(name))
        for secret in (self.password, *secrets, *others):
            if secret and len(secret) >= SECRET_CHARACTERS_MIN:
                for written in {secret, quote(secret, safe=""), quote(secret)}:
                    text = text.replace(written, "***")
        return text


def place(name: str, port: int | None) -> str:
    """A host, with its port if it has one, as a URL has it."""
    shown = f"[{name}]" if ":" in name else name
    return shown if port is None else f"{shown}:{port}"


def parse_url(url: str, *, parameters: Collection[str], connections: Connections | None = None) -> QueueUrl:
    """Splits ``url`` and checks its parameters against the names that the adapter knows.

    Args:
        url: as the user wrote it.
        parameters: the adapter's own.
        connections: how its broker can be reached, where the URL says more about that than host and port.

    Raises:
        QueueUrlError: it is not a URL, or has a parameter that is not known, or one twice, or too many servers.
    """
    return _Parser(url, frozenset(parameters), connections).parse()


def shown_url(url: str) -> str:
    """A URL as a message may show it.

    Raises:
        ValueError: it is not a URL. The error's text may hold a secret.
    """
    split = _Split(url)
    split.hosts()  # a port that is no number may be a part of a password
    if not split.at and "@" in split.beyond:
        return f"{split.scheme}://…"  # most likely the rest of a password that was not percent-encoded
    return split.shown()


class _Split:
    """The raw parts of a URL. `urllib` knows no URLs with several servers."""

    def __init__(self, url: str) -> None:
        scheme, separator, rest = url.partition("://")
        if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
            raise ValueError("no scheme")
        before, self.mark, query = rest.partition("?")
        self.fragment = before.partition("#")[2] or query.partition("#")[2]
        self.has_fragment = "#" in rest
        first, *further = _FURTHER.split(before.partition("#")[0])
        self.scheme = scheme
        self.authority: str
        self.user: str
        self.at: str
        self.authority, slash, path = first.partition("/")
        self.path = slash + path
        self.query = query.partition("#")[0]
        self.user, self.at, places = self.authority.rpartition("@")
        self.places = places.split(",")
        for server in further:
            authority, slash, path = server.partition("://")[2].partition("/")
            user, _, places = authority.rpartition("@")
            if user not in {"", self.user}:
                raise ValueError("servers with different users")
            self.path = slash + path if slash else self.path
            self.places += places.split(",")
        self.pairs = parse_qsl(self.query, keep_blank_values=True, strict_parsing=bool(self.query))

    @property
    def beyond(self) -> str:
        """Where a part of a password is found that was not percent-encoded: whatever a password should not be in."""
        return self.path + self.fragment + "".join(name for name, _ in self.pairs)

    def hosts(self) -> tuple[Host, ...]:
        found = []
        for text in self.places:
            match = _PLACE.fullmatch(text)
            port = int(match["port"]) if match and match["port"] else None
            if not match or (port or 0) > _PORT_MAX:
                raise ValueError("no host and port")
            name = match["host"]
            name = name[1:-1] if name.startswith("[") else unquote(name)
            found.append(Host(name if "/" in name else name.lower(), port))
        return tuple(found)

    def shown(self) -> str:
        """The URL with its secrets hidden; a name without a password may be a token."""
        name, colon, _ = self.user.partition(":")
        user = (f"{name}:***@" if colon else "***@") if self.at else ""
        pieces = []
        for piece in self.query.split("&") if self.query else ():
            key, equals, _ = piece.partition("=")
            pieces.append(f"{key}{equals}***" if SECRET_NAME.search(unquote(key)) else _USER.sub("://***@", piece))
        return f"{self.scheme}://{user}{','.join(self.places)}{self.path}{self.mark}{'&'.join(pieces)}" + (
            f"#{self.fragment}" if self.has_fragment else ""
        )


class _Parser:
    def __init__(self, url: str, own: frozenset[str], connections: Connections | None) -> None:
        self._url = url
        self._own = own
        self._connections = connections

    def parse(self) -> QueueUrl:
        try:
            split = _Split(self._url)
            hosts = split.hosts()
        except ValueError as error:
            # The error's own words may hold a part of the URL, and that may be the password: so they are not repeated.
            raise QueueUrlError(
                f"{self._url.partition('://')[0]}://…: this is not a URL "
                "(scheme://user:password@host:port/path?name=value)."
            ) from error
        scheme = split.scheme.lower()
        if split.authority and not split.at and "@" in split.beyond:  # the rest of a password, most likely
            raise QueueUrlError(f"{scheme}://…: in a user's name or password, write / ? # @ : and % percent-encoded.")
        shown = split.shown()
        if split.has_fragment:
            raise QueueUrlError(f"{shown}: a # in a queue's URL must be written %23.")
        if len(hosts) > 1 and not (self._connections and self._connections.several):
            raise QueueUrlError(f"{shown}: write one host, for this adapter reads from one server.")
        self._check_transport(scheme)
        found = self._parameters(split, shown)
        name, colon, password = split.user.partition(":")
        return QueueUrl(
            scheme=scheme,
            host=hosts[0].name,
            port=hosts[0].port,
            username=unquote(name) if split.at else None,
            password=unquote(password) if colon else None,
            path=unquote(split.path),
            parameters=found,
            shown=shown,
            hosts=hosts,
            raw_path=split.path,
        )

    def _check_transport(self, scheme: str) -> None:
        kind, plus, transport = scheme.partition("+")
        if not plus or not self._connections or transport in self._connections.transports:
            return
        known = ", ".join(f"{kind}+{name}" if name else kind for name in self._connections.transports)
        raise QueueUrlError(f"{scheme}://…: there is no such way to this broker; write one of {known}.")

    def _parameters(self, split: _Split, shown: str) -> dict[str, str]:
        connections = self._connections
        listed = self._own | (connections.parameters if connections else frozenset())
        also = connections.also if connections else {}
        known = listed | set(also.values())
        unused = connections.unused if connections else frozenset()
        found: dict[str, str] = {}
        for written, value in split.pairs:
            name = written if written in self._own else also.get(written, written)
            if name not in known and written in unused:
                continue
            if name not in known:
                names = ", ".join(sorted(listed)) or "none"
                rest = "; docs/queues.md has libraries' names for more" if also else ""
                # What follows the question mark is left out: a misspelt parameter may hold a secret.
                before = shown.partition("?")[0]
                raise QueueUrlError(f"{before}: unknown parameter {written!r} (known: {names}{rest}).")
            if name in found:
                raise QueueUrlError(f"{shown}: the parameter {name!r} is there twice.")
            found[name] = value
        return found
