"""Which engine, and with which key: names, URLs, the environment, and the files in which a key is kept."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nullworker.client.errors import InstanceInvalidError, KeyMissingError
from nullworker.wire import paths

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Vast's engines, by the names that the ``vastai`` client knows them under.
VAST_INSTANCES = {
    "prod": "https://run.vast.ai",
    "alpha": "https://run-alpha.vast.ai",
    "candidate": "https://run-candidate.vast.ai",
}
#: Where Vast keeps the list of endpoints and its root certificate, for all of its engines.
VAST_CONSOLE_URL = "https://console.vast.ai"
#: Not ``localhost``: that may mean ::1 first, where some other server can listen.
LOCAL_URL = "http://127.0.0.1:8080"

API_KEY_VARIABLE = "VAST_API_KEY"
STATE_VARIABLE = "NULLWORKER_STATE"
#: The file with the authority that the certificate of an engine must be of, in PEM.
CA_VARIABLE = "NULLWORKER_CA"
CA_FILE = "engine-ca.pem"
API_KEY_FILE = "api_key"
#: An engine that runs keeps its URL there, so that `local` finds it on whatever port it is.
URL_FILE = "url"

#: The longest pause between two requests for a worker. Vast's engine answers at once, and is polled as the ``vastai``
#: client does by default. An engine of ours holds the request until there is news, so that a long pause would only be
#: time in which a free worker is not noticed.
POLL_MAX_VAST_S, POLL_MAX_OWN_S = 5.0, 0.2


@dataclass(frozen=True)
class Instance:
    """An engine. ``url`` is None for Vast's own, which are known by ``name``."""

    name: str
    url: str | None = None

    @property
    def label(self) -> str:
        """How messages name it."""
        return self.url or f"Vast ({self.name})"

    @property
    def engine_url(self) -> str:
        """Where workers are asked for."""
        return self.url or VAST_INSTANCES[self.name]

    @property
    def console_url(self) -> str:
        """Where the list of endpoints is."""
        return self.url or VAST_CONSOLE_URL

    @property
    def certificate_url(self) -> str:
        """Where its root certificate is."""
        return self.console_url + paths.ROOT_CERTIFICATE

    @property
    def poll_max_s(self) -> float:
        """The longest pause between two requests for a worker."""
        return POLL_MAX_VAST_S if self.url is None else POLL_MAX_OWN_S

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
        return Instance("local", _local_url(state_directory()))
    try:
        parts = urlsplit(name)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        raise InstanceInvalidError(name) from None
    if not usable or parts.query or parts.fragment or parts.username or not name.isprintable() or " " in name:
        raise InstanceInvalidError(name)
    return Instance(name, name.rstrip("/"))


def _local_url(state: Path) -> str:
    """Where the engine of this user runs, by the file that it keeps while it does; else the usual place."""
    try:
        kept = Instance("local", (state / URL_FILE).read_text(encoding="utf-8").strip())
        return kept.engine_url if kept.is_here else LOCAL_URL
    except (OSError, ValueError):
        return LOCAL_URL


def state_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where the engine of this user keeps its state: ``NULLWORKER_STATE``, else ``~/.local/state/nullworker``."""
    given = (os.environ if environ is None else environ).get(STATE_VARIABLE)
    return Path(given or "~/.local/state/nullworker").expanduser()


def find_authority(instance: Instance, environ: Mapping[str, str] | None = None) -> Path | None:
    """The file with the authority that the engine's certificate must be of; None: one of the usual authorities.

    It is that of ``NULLWORKER_CA``, else, for an engine on this machine, the one that the engine wrote.

    Args:
        instance: the engine.
        environ: the environment; None: the process's own.
    """
    environ = os.environ if environ is None else environ
    if instance.url is None or not instance.url.lower().startswith("https:"):
        return None
    given = environ.get(CA_VARIABLE)
    if given:
        return Path(given).expanduser()
    own = state_directory(environ) / CA_FILE
    return own if instance.is_here and own.is_file() else None


def find_key(instance: Instance, given: str | None = None, environ: Mapping[str, str] | None = None) -> str:
    """The API key: the one ``given``, else ``VAST_API_KEY``, else the one in a file that is kept for this engine.

    For an engine on this machine, that file is the engine's own; for Vast's, the one that ``vastai set api-key`` wrote.
    A key that is in a file is sent to no other engine.

    Args:
        instance: the engine.
        given: the key, if the caller has one.
        environ: the environment; None: the process's own.

    Raises:
        KeyMissingError: there is none, or it cannot be sent.
    """
    environ = os.environ if environ is None else environ
    for key, source in ((given, "that was given"), (environ.get(API_KEY_VARIABLE), f"in {API_KEY_VARIABLE}")):
        if key:
            return _sendable(key, source)
    advice = f"set {API_KEY_VARIABLE}, or give one"
    if instance.is_here:
        path = state_directory(environ) / API_KEY_FILE
        return _kept_key(instance, path, f"set {API_KEY_VARIABLE}, or start the engine, which writes one to {path}")
    if instance.url is None:
        for path in _vast_key_files(environ):
            if path.is_file():
                return _kept_key(instance, path, f"{advice}, or correct {path}")
    raise KeyMissingError(f"There is no API key for {instance.label}: {advice}.")


def _kept_key(instance: Instance, path: Path, advice: str) -> str:
    """The key in a file."""
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise KeyMissingError(f"There is no API key for {instance.label}: {advice} ({reason}).") from None
    return _sendable(key, f"in {path}")


def _vast_key_files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Where the ``vastai`` command line keeps a key: today, and in its older versions."""
    configuration = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(configuration).expanduser() / "vastai" / "vast_api_key", Path("~/.vast_api_key").expanduser()


def _sendable(key: str, source: str) -> str:
    """A key travels in an HTTP header: one that cannot would fail much later, as something else."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise KeyMissingError(f"The API key {source} is no key: it is empty, or has blanks or unprintable characters.")
    return key
