"""Which engine, and with which key: names, URLs, environment and the local engine's own key file."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nullworker.client.errors import InstanceInvalidError, KeyMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Vast's own, by the names that ``vastai.Serverless`` knows them under.
VAST_INSTANCES = ("prod", "alpha", "candidate")
#: Not ``localhost``: that may mean ::1 first, where some other server can listen.
LOCAL_URL = "http://127.0.0.1:8080"

API_KEY_VARIABLE = "VAST_API_KEY"
STATE_VARIABLE = "NULLWORKER_STATE"
API_KEY_FILE = "api_key"


@dataclass(frozen=True)
class Instance:
    """An engine. ``url`` is None for Vast's own, whose addresses ``vastai`` knows by ``name``."""

    name: str
    url: str | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return self.url or f"Vast ({self.name})"

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, so that its key file may be here, too, and may be sent to it."""
        host = urlsplit(self.url).hostname if self.url else None
        if host is None:
            return False
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def find_instance(name: str) -> Instance:
    """The engine that ``name`` means: ``prod``, ``alpha``, ``candidate``, ``local``, or an http(s) URL.

    Raises:
        InstanceInvalidError: it means none.
    """
    if name in VAST_INSTANCES:
        return Instance(name)
    if name == "local":
        return Instance("local", LOCAL_URL)
    try:
        parts = urlsplit(name)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise InstanceInvalidError(name) from None
    if not usable or parts.query or parts.fragment or parts.username or not name.isprintable() or " " in name:
        raise InstanceInvalidError(name)
    return Instance(name, name.rstrip("/"))


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where the engine of this user keeps its state: ``NULLWORKER_STATE``, else ``~/.local/state/nullworker``."""
    given = (os.environ if environ is None else environ).get(STATE_VARIABLE)
    return Path(given or "~/.local/state/nullworker").expanduser()


def find_key(instance: Instance, given: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """The API key: the one ``given``, else ``VAST_API_KEY``, else, for an engine here, the one that it wrote down.

    Raises:
        KeyMissingError: there is none, or it cannot be sent.
    """
    environ = os.environ if environ is None else environ
    for key, source in ((given, "that was given"), (environ.get(API_KEY_VARIABLE), f"in {API_KEY_VARIABLE}")):
        if key:
            return _sendable(key, source)
    if not instance.is_here:
        raise KeyMissingError(f"There is no API key for {instance.label}: set {API_KEY_VARIABLE}, or give one.")
    path = state_directory(environ) / API_KEY_FILE
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise KeyMissingError(
            f"There is no API key for {instance.label}: set {API_KEY_VARIABLE}, or start the engine, which writes "
            f"one to {path} ({reason})."
        ) from None
    return _sendable(key, f"in {path}")


def _sendable(key: str, source: str) -> str:
    """A key travels in an HTTP header: one that cannot would fail much later, as something else."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise KeyMissingError(f"The API key {source} is no key: it is empty, or has blanks or unprintable characters.")
    return key
