"""The Null PyWorker's settings: environment variables, read and checked before anything large is imported."""

from __future__ import annotations

import hmac
import os
import shlex
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.wire.worker_side.engine_tls import demands_grants
from nullworker.wire.worker_side.environment import PORT_MAX, Environment, SettingsError, http_url, is_http_url
from nullworker.wire.worker_side.local_requests import is_loopback
from nullworker.wire.worker_side.run_as import RUN_AS_VARIABLE, RunAs, RunAsError, find

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SECONDS = "a number of seconds"


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
    control_token: str = field(repr=False)  # NULL_CONTROL_TOKEN: made of the worker's token; "": the port asks for none
    backend_health_url: str  # BACKEND_HEALTH_URL; "" for our own /health
    consumer: tuple[str, ...]  # NULL_CONSUMER, split; () for none
    consumer_dir: str  # NULL_CONSUMER_DIR: where it starts, absolute; "" is where the worker did
    consumer_grace_s: float  # NULL_CONSUMER_GRACE
    consumer_background_s: float | None  # NULL_CONSUMER_BACKGROUND: None: as long as it takes
    consumer_idle_s: float | None  # NULL_CONSUMER_RELEASE_WHEN_IDLE: None: never
    run_as: RunAs | None  # NULL_RUN_AS: the user that the consumer runs as; None: the worker's own
    create_wait_s: float  # NULL_CREATE_WAIT: Vast's client gives up after 10 s
    max_lifetime_s: float  # NULL_MAX_LIFETIME
    max_age_s: float  # NULL_MAX_AGE
    callback_private: bool  # NULL_CALLBACK_PRIVATE
    unsecured: bool  # UNSECURED: Vast's own switch, which turns the checks of signature and grant off
    demands_grants: bool  # NULL_GRANTS: whatever answers in the engine's place
    log_level: str  # LOG_LEVEL

    @property
    def own_http_url(self) -> str:
        """Where this very process reaches the framework's plain-HTTP port."""
        host = self.host or "127.0.0.1"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
        return http_url(host, self.http_port)

    @property
    def control_url(self) -> str:
        """Where the consumer reaches the control port."""
        base = f"http://127.0.0.1:{self.control_port}"
        return f"{base}/{self.control_token}" if self.control_token else base


def read(variables: Mapping[str, str]) -> Settings:
    """Reads the settings from the environment ``variables``.

    Raises:
        SettingsError: one is missing or wrong.
    """
    env = Environment(variables)
    worker_port = env.port("WORKER_PORT")
    env.public_port()
    env.required("PUBLIC_IPADDR")
    settings = Settings(
        worker_id=env.worker_id(),
        report_addrs=env.report_addrs(),
        token=env.raw("MASTER_TOKEN"),
        worker_port=worker_port,
        http_port=env.port("WORKER_HTTP_PORT", worker_port + 1),
        host=_host(env),
        use_ssl=env.raw("USE_SSL") == "true",  # as the framework compares it
        control_port=env.port("NULL_CONTROL_PORT", 18_999),
        control_token=_control_token(env),
        backend_health_url=_backend_health_url(env),
        consumer=_consumer(env),
        consumer_dir=_consumer_dir(env),
        consumer_grace_s=env.number("NULL_CONSUMER_GRACE", 8.0, at_most=3_600.0, kind=_SECONDS),
        consumer_background_s=_consumer_background_s(env),
        consumer_idle_s=_consumer_idle_s(env),
        run_as=_run_as(env),
        create_wait_s=env.number("NULL_CREATE_WAIT", 9.0, at_most=3_600.0, kind=_SECONDS),
        max_lifetime_s=env.number("NULL_MAX_LIFETIME", 7 * 86_400.0, at_least=1.0, kind=_SECONDS),
        max_age_s=env.number("NULL_MAX_AGE", 30 * 86_400.0, at_least=1.0, kind=_SECONDS),
        callback_private=env.flag("NULL_CALLBACK_PRIVATE"),
        unsecured=env.flag("UNSECURED"),
        demands_grants=demands_grants(variables),
        log_level=_log_level(env),
    )
    _check_ports(settings)
    return settings


def _host(env: Environment) -> str | None:
    """Where the worker listens: for callers that nothing checks, on this machine alone."""
    host = env.raw("WORKER_HOST")
    if not env.flag("UNSECURED"):
        return host or None
    if host and not is_loopback(host):
        raise SettingsError(
            f"UNSECURED is set, so no caller is checked, and WORKER_HOST is {host}, beyond this machine; leave one out."
        )
    return host or "127.0.0.1"


def _control_token(env: Environment) -> str:
    """What the paths of the control port begin with: the same after a restart, by which leftovers are recognised."""
    if not env.flag("NULL_CONTROL_TOKEN"):
        return ""
    token = env.raw("MASTER_TOKEN")
    if not token:
        raise SettingsError("NULL_CONTROL_TOKEN is set, and the token is made of MASTER_TOKEN, which is not; set it.")
    return hmac.digest(token.encode(), b"control port", "sha256").hex()


def _log_level(env: Environment) -> str:
    level = env.text("LOG_LEVEL").upper() or "INFO"
    if level not in _LOG_LEVELS:
        raise SettingsError(f"LOG_LEVEL is {level!r}, but must be one of {', '.join(_LOG_LEVELS)}.")
    return level


def _backend_health_url(env: Environment) -> str:
    url = env.text("BACKEND_HEALTH_URL")
    if url and not is_http_url(url):
        raise SettingsError(
            f"BACKEND_HEALTH_URL is {url!r}, but must be an absolute URL such as http://127.0.0.1:9090/health."
        )
    return url


def _consumer(env: Environment) -> tuple[str, ...]:
    text = env.raw("NULL_CONSUMER")
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
    program = shutil.which(name, path=env.raw("PATH") or None)
    if program is None and os.path.isfile(name):  # noqa: PTH113 - as text
        raise SettingsError(
            f"The consumer cannot be started: {words[0]} is a file that may not be run: chmod +x {words[0]}, or name "
            "its interpreter before it in NULL_CONSUMER."
        )
    if program is None:
        raise SettingsError(f"The consumer cannot be started: there is no program {words[0]!r}; correct NULL_CONSUMER.")
    return (os.path.abspath(program), *words[1:])  # noqa: PTH100 - resolve() would follow a virtual environment's link


def _consumer_dir(env: Environment) -> str:
    directory = env.raw("NULL_CONSUMER_DIR")
    if directory and not os.path.isdir(directory):  # noqa: PTH112 - as text
        raise SettingsError(f"NULL_CONSUMER_DIR is {directory!r}, which is no directory; the consumer starts in it.")
    return os.path.abspath(directory) if directory else ""  # noqa: PTH100 - as the user wrote it


def _run_as(env: Environment) -> RunAs | None:
    name = env.text(RUN_AS_VARIABLE)
    try:
        return find(name) if name else None
    except RunAsError as error:
        raise SettingsError(f"{RUN_AS_VARIABLE} is set, and {error}.") from None


def _consumer_background_s(env: Environment) -> float | None:
    if not env.text("NULL_CONSUMER_BACKGROUND"):
        return None
    return env.number("NULL_CONSUMER_BACKGROUND", 0.0, at_most=30 * 86_400.0, kind=_SECONDS)


def _consumer_idle_s(env: Environment) -> float | None:
    if not env.text("NULL_CONSUMER_RELEASE_WHEN_IDLE"):
        return None
    return env.number("NULL_CONSUMER_RELEASE_WHEN_IDLE", 0.0, at_least=1.0, at_most=30 * 86_400.0, kind=_SECONDS)


def _check_ports(settings: Settings) -> None:
    ports = {"WORKER_PORT": settings.worker_port, "NULL_CONTROL_PORT": settings.control_port}
    # Named in full: WORKER_HTTP_PORT is hardly ever set, and the message must be understood without knowing it.
    ports["WORKER_HTTP_PORT (WORKER_PORT + 1 unless set)"] = settings.http_port
    if settings.http_port > PORT_MAX:
        raise SettingsError("WORKER_PORT is 65535, and the port after it, which is needed too, does not exist.")
    names = list(ports)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            if ports[name] == ports[other]:
                raise SettingsError(f"{name} and {other} are both {ports[name]}; give each a port of its own.")
