"""What the Null PyWorker is told by its environment, read and checked before anything heavy is imported."""

from __future__ import annotations

import math
import os
import shlex
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_YES = frozenset({"1", "true", "yes", "y", "on", "t"})
_NO = frozenset({"", "0", "false", "no", "n", "off", "f"})


class SettingsError(Exception):
    """A variable that is missing or wrong; the message is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The worker's settings. Times are in seconds."""

    worker_id: int  # CONTAINER_ID
    report_addrs: tuple[str, ...]  # REPORT_ADDR
    token: str = field(repr=False)  # MASTER_TOKEN
    worker_port: int  # WORKER_PORT
    http_port: int  # WORKER_HTTP_PORT: /session/end without TLS
    host: str | None  # WORKER_HOST: None is the framework's default, all interfaces
    use_ssl: bool  # USE_SSL
    control_port: int  # NULL_CONTROL_PORT
    backend_health_url: str  # BACKEND_HEALTH_URL; "" for our own /health
    consumer: tuple[str, ...]  # NULL_CONSUMER, split; () for none
    consumer_dir: str  # NULL_CONSUMER_DIR: where it starts, absolute; "" is where the worker did
    consumer_grace_s: float  # NULL_CONSUMER_GRACE
    create_wait_s: float  # NULL_CREATE_WAIT: Vast's client gives up after 10 s
    max_lifetime_s: float  # NULL_MAX_LIFETIME
    max_age_s: float  # NULL_MAX_AGE
    callback_private: bool  # NULL_CALLBACK_PRIVATE
    unsecured: bool  # UNSECURED: Vast's own switch, which turns the checks of signature and grant off
    log_level: str  # LOG_LEVEL

    @property
    def own_http_url(self) -> str:
        """Where this very process reaches the framework's plain-HTTP port."""
        host = self.host or "127.0.0.1"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        return f"http://[{host}]:{self.http_port}" if ":" in host else f"http://{host}:{self.http_port}"

    @property
    def control_url(self) -> str:
        """Where the consumer reaches the control port."""
        return f"http://127.0.0.1:{self.control_port}"


def read(env: Mapping[str, str]) -> Settings:
    """Reads the settings from the variables ``env``.

    Raises:
        SettingsError: one is missing or wrong.
    """
    worker_port = _port(env, "WORKER_PORT")
    _whole(env, f"VAST_TCP_PORT_{env['WORKER_PORT']}", 1, 65_535)
    _required(env, "PUBLIC_IPADDR")
    settings = Settings(
        worker_id=_whole(env, "CONTAINER_ID", 0, 2**53 - 1),
        report_addrs=_report_addrs(env),
        token=env.get("MASTER_TOKEN", ""),
        worker_port=worker_port,
        http_port=_port(env, "WORKER_HTTP_PORT", worker_port + 1),
        host=env.get("WORKER_HOST") or None,
        use_ssl=env.get("USE_SSL", "false") == "true",
        control_port=_port(env, "NULL_CONTROL_PORT", 18_999),
        backend_health_url=_backend_health_url(env),
        consumer=_consumer(env),
        consumer_dir=_consumer_dir(env),
        consumer_grace_s=_seconds(env, "NULL_CONSUMER_GRACE", 8.0, at_most=3_600.0),
        create_wait_s=_seconds(env, "NULL_CREATE_WAIT", 9.0, at_most=3_600.0),
        max_lifetime_s=_seconds(env, "NULL_MAX_LIFETIME", 7 * 86_400.0, at_least=1.0),
        max_age_s=_seconds(env, "NULL_MAX_AGE", 30 * 86_400.0, at_least=1.0),
        callback_private=_yes_or_no(env, "NULL_CALLBACK_PRIVATE"),
        unsecured=_yes_or_no(env, "UNSECURED"),
        log_level=_log_level(env),
    )
    _check_ports(settings)
    return settings


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value.strip():
        raise SettingsError(f"{name} is not set; a Vast instance has it, elsewhere set it before starting the worker.")
    return value


def _whole(env: Mapping[str, str], name: str, at_least: int, at_most: int) -> int:
    text = _required(env, name)
    # Exactly what the framework's own int() and its table of variables take: no sign, no blank, no other script.
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and at_least <= int(text) <= at_most):
        raise SettingsError(f"{name} is {text!r}, but must be a whole number from {at_least} to {at_most}.")
    return int(text)


def _port(env: Mapping[str, str], name: str, default: int | None = None) -> int:
    if default is not None and not env.get(name, "").strip():
        return default
    return _whole(env, name, 1, 65_535)


def _seconds(
    env: Mapping[str, str], name: str, default: float, *, at_least: float = 0.0, at_most: float = math.inf
) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (at_least <= value <= at_most and math.isfinite(value)):
        bounds = f"of at least {at_least:g}" + (f" and at most {at_most:g}" if math.isfinite(at_most) else "")
        raise SettingsError(f"{name} is {text!r}, but must be a number of seconds {bounds}.")
    return value


def _yes_or_no(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower()
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise SettingsError(f"{name} is {text!r}, but must be true or false.")


def _log_level(env: Mapping[str, str]) -> str:
    level = env.get("LOG_LEVEL", "").strip().upper() or "INFO"
    if level not in _LOG_LEVELS:
        raise SettingsError(f"LOG_LEVEL is {level!r}, but must be one of {', '.join(_LOG_LEVELS)}.")
    return level


def is_http_url(text: str) -> bool:
    """Whether ``text`` is an absolute http or https URL with a host and, if any, a legal port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _report_addrs(env: Mapping[str, str]) -> tuple[str, ...]:
    addrs = tuple(addr.strip().rstrip("/") for addr in _required(env, "REPORT_ADDR").split(",") if addr.strip())
    for addr in addrs:
        if not is_http_url(addr):
            raise SettingsError(f"REPORT_ADDR has {addr!r}, but must be one or more http or https URLs.")
    if not addrs:
        raise SettingsError("REPORT_ADDR names no address; set it to the engine's URL.")
    return addrs


def _backend_health_url(env: Mapping[str, str]) -> str:
    url = env.get("BACKEND_HEALTH_URL", "").strip()
    if url and not is_http_url(url):
        raise SettingsError(
            f"BACKEND_HEALTH_URL is {url!r}, but must be an absolute URL such as http://127.0.0.1:9090/health."
        )
    return url


def _consumer(env: Mapping[str, str]) -> tuple[str, ...]:
    text = env.get("NULL_CONSUMER", "")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"NULL_CONSUMER cannot be read as a command: {str(error).lower()}.") from None
    if not words:
        return ()
    # Looked up now, so that a worker whose consumer cannot start is never given a reservation.
    name = words[0]
    if os.sep in name:  # relative to where it starts, as in a shell there
        name = os.path.join(_consumer_dir(env), name)  # noqa: PTH118 - as text; Path would drop a leading ./
    program = shutil.which(name, path=env.get("PATH"))
    if program is None:
        raise SettingsError(f"The consumer cannot be started: there is no program {words[0]!r}; correct NULL_CONSUMER.")
    return (os.path.abspath(program), *words[1:])  # noqa: PTH100 - resolve() would follow a virtual environment's link


def _consumer_dir(env: Mapping[str, str]) -> str:
    directory = env.get("NULL_CONSUMER_DIR", "")
    if directory and not os.path.isdir(directory):  # noqa: PTH112 - as text
        raise SettingsError(f"NULL_CONSUMER_DIR is {directory!r}, which is no directory; the consumer starts in it.")
    return os.path.abspath(directory) if directory else ""  # noqa: PTH100 - as the user wrote it


def _check_ports(settings: Settings) -> None:
    ports = {"WORKER_PORT": settings.worker_port, "NULL_CONTROL_PORT": settings.control_port}
    # Said in full, for nobody sets WORKER_HTTP_PORT and the sentence must be understood all the same.
    ports["WORKER_HTTP_PORT (WORKER_PORT + 1 unless set)"] = settings.http_port
    if settings.http_port > 65_535:
        raise SettingsError("WORKER_PORT is 65535, and the port after it, which is needed too, does not exist.")
    names = list(ports)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            if ports[name] == ports[other]:
                raise SettingsError(f"{name} and {other} are both {ports[name]}; give each a port of its own.")
