"""The settings of the environment and the command line, checked before anything starts.

The names of the environment are those that a Vast instance sets (``CONTAINER_ID``, ``REPORT_ADDR`` …). With
``REPORT_ADDR`` there is an engine to report to, and all of them are needed; without it the backend is a plain server.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.wire.worker_side.engine_tls import GRANTS_VARIABLE, demands_grants
from nullworker.wire.worker_side.environment import Environment, SettingsError, http_url
from nullworker.wire.worker_side.local_requests import is_loopback
from nullworker.wire.worker_side.messages import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT_DEFAULT = 3000  # the classic server's own
PERF_DEFAULT = 100.0  # what a null worker has, and what a client's request costs unless it says otherwise
THREADS_DEFAULT = 32  # requests inside at once; all but the running one wait for the lock
BODY_BYTES_MAX_DEFAULT = 32 * 2**20  # a few images in base64; a waiting body of this size is kept in a file
GRACE_DEFAULT_S = 8.0  # a process fleet, like `docker stop`, kills after ten
TLS_CERTIFICATE = Path("/etc/instance.crt")  # where a Vast instance has them
TLS_KEY = Path("/etc/instance.key")


@dataclass(frozen=True, slots=True)
class EngineLink:
    """The engine that this worker reports to, and the worker."""

    report_addrs: tuple[str, ...]  # without a slash at their ends
    identity: Identity
    demands_grants: bool = False  # whatever answers in the engine's place


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate and its key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the service."""

    backend: str
    roots: tuple[Path, ...]  # folders that are searched for the backend's, in order
    host: str
    port: int
    link: EngineLink | None = None
    tls: TlsFiles | None = None
    unsecured: bool = False
    thread_safe: bool | None = None  # None: as the backend says
    threads: int = THREADS_DEFAULT
    body_bytes_max: int = BODY_BYTES_MAX_DEFAULT
    grace_s: float = GRACE_DEFAULT_S
    model_log: Path = Path("infer.log")
    perf: float | None = None  # None: as the backend says, else `PERF_DEFAULT`

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine can reach the server."""
        return is_loopback(self.host)


def from_environment(
    variables: Mapping[str, str],
    *,
    default_roots: tuple[Path, ...],
    backend: str | None = None,
    path: str | None = None,
    host: str | None = None,
    port: int | None = None,
    thread_safe: bool | None = None,
) -> Settings:
    """Reads the settings. All arguments but the first two are of the command line, and override the environment.

    Args:
        variables: the environment.
        default_roots: the folders that are searched for the backend's, if BACKEND_PATH names none.
        backend: the backend's name, for BACKEND.
        path: folders to search, separated by colons, for BACKEND_PATH.
        host: the address to listen on, for WORKER_HOST.
        port: the port to listen on, for WORKER_PORT.
        thread_safe: whether handlers may run at the same time, for BACKEND_THREAD_SAFE.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    env = Environment({key: value.strip() for key, value in variables.items()})
    name = backend or env.text("BACKEND")
    if not name:
        raise SettingsError("No backend is named; give it as the first argument, or set BACKEND.")
    if name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise SettingsError(
            f"The backend is named {name!r}, which is no folder's name; use --path for the folder that it is in."
        )
    roots = tuple(Path(p).absolute() for p in (path or env.text("BACKEND_PATH")).split(":") if p) or default_roots
    use_ssl = env.flag("USE_SSL")
    own_port = env.port("WORKER_PORT", PORT_DEFAULT)
    link = _link(env, use_ssl=use_ssl)
    if thread_safe is None and env.has("BACKEND_THREAD_SAFE"):
        thread_safe = env.flag("BACKEND_THREAD_SAFE")
    return Settings(
        backend=name,
        roots=roots,
        host=host or env.text("WORKER_HOST") or _default_host(env, link),
        port=own_port if port is None else port,
        link=link,
        tls=_tls(env) if use_ssl else None,
        unsecured=env.flag("UNSECURED"),
        thread_safe=thread_safe,
        threads=round(env.number("BACKEND_THREADS", THREADS_DEFAULT, at_least=1, at_most=1000)),
        body_bytes_max=round(
            env.number("BACKEND_BODY_BYTES_MAX", BODY_BYTES_MAX_DEFAULT, at_least=1024, at_most=2**40)
        ),
        grace_s=env.number("BACKEND_GRACE_S", GRACE_DEFAULT_S, at_most=3600, kind="a number of seconds"),
        model_log=_model_log(env),
        perf=env.number("BACKEND_PERF", 0, at_least=1e-6, at_most=1e9) if env.has("BACKEND_PERF") else None,
    )


def _link(env: Environment, *, use_ssl: bool) -> EngineLink | None:
    if not env.text("REPORT_ADDR").strip(", "):
        return None
    needed = ["CONTAINER_ID", "MASTER_TOKEN", "WORKER_PORT", "PUBLIC_IPADDR"]
    if env.has("WORKER_PORT"):
        needed.append(f"VAST_TCP_PORT_{env.text('WORKER_PORT')}")
    missing = [name for name in needed if not env.has(name)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise SettingsError(f"REPORT_ADDR is set and {', '.join(missing)} {verb} not; set it as well.")
    url = http_url(env.text("PUBLIC_IPADDR"), env.public_port(), use_ssl=use_ssl)
    identity = Identity(env.worker_id(), env.text("MASTER_TOKEN"), url)
    return EngineLink(env.report_addrs(), identity, demands_grants({GRANTS_VARIABLE: env.raw(GRANTS_VARIABLE)}))


def _default_host(env: Environment, link: EngineLink | None) -> str:
    """Loopback, unless clients come from elsewhere: then an engine says so, and each request is signed."""
    if link is None or is_loopback(env.text("PUBLIC_IPADDR")):
        return "127.0.0.1"
    return "0.0.0.0"  # noqa: S104 - a worker under an engine is reached from outside, by signed requests


def _tls(env: Environment) -> TlsFiles:
    return TlsFiles(
        Path(env.text("INSTANCE_CERTIFICATE") or TLS_CERTIFICATE),
        Path(env.text("INSTANCE_KEY") or TLS_KEY),
    )


def _model_log(env: Environment) -> Path:
    """The log that ``logwatch.py`` watches: MODEL_LOG, else where the classic scripts write it."""
    if env.has("MODEL_LOG"):
        return Path(env.text("MODEL_LOG")).absolute()
    return (Path(env.text("SERVER_DIR") or ".") / "infer.log").absolute()
