"""What the environment and the command line say, checked before anything starts.

The names of the environment are those that a Vast instance sets (``CONTAINER_ID``, ``REPORT_ADDR`` …). With
``REPORT_ADDR`` there is an engine to report to, and all of them are needed; without it the backend is just a server.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT_DEFAULT = 3000  # the classic server's own
PERF_DEFAULT = 100.0  # what a null worker has, and what a client's request costs unless it says otherwise
THREADS_DEFAULT = 32  # requests inside at once; all but the running one wait for their turn
BODY_BYTES_MAX_DEFAULT = 32 * 2**20  # a few images in base64; a waiting body of this size is kept in a file
GRACE_DEFAULT_S = 8.0  # a process fleet, like `docker stop`, kills after ten
TLS_CERTIFICATE = Path("/etc/instance.crt")  # where a Vast instance has them
TLS_KEY = Path("/etc/instance.key")

_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE = frozenset({"", "0", "false", "no", "off", "n", "f"})


class SettingsError(Exception):
    """The environment or the command line is wrong; the message is one sentence that says what to set."""


@dataclass(frozen=True, slots=True)
class EngineLink:
    """Where this worker reports, and as whom."""

    report_addrs: tuple[str, ...]
    container_id: int
    master_token: str = field(repr=False)
    url: str  # under which clients reach this worker

    def __post_init__(self) -> None:
        """Addresses are kept without their last slash."""
        object.__setattr__(self, "report_addrs", tuple(a.rstrip("/") for a in self.report_addrs))


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate and its key, PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the service is told."""

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


def is_loopback(host: str) -> bool:
    """Whether ``host`` (a name or an address) is this machine alone."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def from_environment(
    env: Mapping[str, str],
    *,
    default_roots: tuple[Path, ...],
    backend: str | None = None,
    path: str | None = None,
    host: str | None = None,
    port: int | None = None,
    thread_safe: bool | None = None,
) -> Settings:
    """The settings that ``env`` gives; what is given beside it (the command line) wins. Raises `SettingsError`."""
    name = backend or env.get("BACKEND", "")
    if not name:
        _wrong("no backend is named: give it as the first argument, or set BACKEND")
    if name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        _wrong(f"the backend is named {name!r}, which is no folder's name: use --path for the folder that it lies in")
    given = path or env.get("BACKEND_PATH", "")
    roots = tuple(Path(p).absolute() for p in given.split(":") if p) or default_roots
    use_ssl = _flag(env, "USE_SSL")
    own_port = _port(env, "WORKER_PORT", PORT_DEFAULT)
    link = _link(env, use_ssl=use_ssl)
    return Settings(
        backend=name,
        roots=roots,
        host=host or env.get("WORKER_HOST") or _default_host(env, link),
        port=own_port if port is None else port,
        link=link,
        tls=_tls(env) if use_ssl else None,
        unsecured=_flag(env, "UNSECURED"),
        thread_safe=_flag(env, "BACKEND_THREAD_SAFE")
        if thread_safe is None and _set(env, "BACKEND_THREAD_SAFE")
        else thread_safe,
        threads=round(_number(env, "BACKEND_THREADS", THREADS_DEFAULT, lowest=1, highest=1000)),
        body_bytes_max=round(
            _number(env, "BACKEND_BODY_BYTES_MAX", BODY_BYTES_MAX_DEFAULT, lowest=1024, highest=2**40)
        ),
        grace_s=_number(env, "BACKEND_GRACE_S", GRACE_DEFAULT_S, lowest=0, highest=3600),
        model_log=_model_log(env),
        perf=_number(env, "BACKEND_PERF", 0, lowest=1e-6, highest=1e9) if _set(env, "BACKEND_PERF") else None,
    )


def _wrong(message: str) -> NoReturn:
    raise SettingsError(message)


def _set(env: Mapping[str, str], name: str) -> bool:
    return bool(env.get(name, "").strip())


def _flag(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower()
    if text not in _TRUE and text not in _FALSE:
        _wrong(f"{name} is {text!r}, and must be true or false")
    return text in _TRUE


def _number(env: Mapping[str, str], name: str, default: float, *, lowest: float, highest: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not lowest <= number <= highest:
        _wrong(f"{name} is {text!r}, and must be a number from {lowest:g} to {highest:g}")
    return number


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not 0 < int(text) < 65536:
        _wrong(f"{name} is {text!r}, and must be a port from 1 to 65535")
    return int(text)


def _link(env: Mapping[str, str], *, use_ssl: bool) -> EngineLink | None:
    addresses = tuple(a.strip() for a in env.get("REPORT_ADDR", "").split(",") if a.strip())
    if not addresses:
        return None
    for address in addresses:
        if not address.startswith(("http://", "https://")):
            _wrong(f"REPORT_ADDR has {address!r}, which does not start with http:// or https://")
    public = f"VAST_TCP_PORT_{env.get('WORKER_PORT', '').strip()}"
    needed = ["CONTAINER_ID", "MASTER_TOKEN", "WORKER_PORT", "PUBLIC_IPADDR"]
    if _set(env, "WORKER_PORT"):
        needed.append(public)
    missing = [name for name in needed if not _set(env, name)]
    if missing:
        _wrong(
            f"REPORT_ADDR is set and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not: set it as well"
        )
    container_id = env["CONTAINER_ID"].strip()
    if not container_id.isdecimal():
        _wrong(f"CONTAINER_ID is {container_id!r}, and must be a whole number")
    address = env["PUBLIC_IPADDR"].strip()
    host = f"[{address}]" if ":" in address else address
    return EngineLink(
        report_addrs=addresses,
        container_id=int(container_id),
        master_token=env["MASTER_TOKEN"].strip(),
        url=f"{'https' if use_ssl else 'http'}://{host}:{_port(env, public, 0)}",
    )


def _default_host(env: Mapping[str, str], link: EngineLink | None) -> str:
    """Loopback, unless clients come from elsewhere: then an engine says so, and each request is signed."""
    if link is None or is_loopback(env.get("PUBLIC_IPADDR", "").strip()):
        return "127.0.0.1"
    return "0.0.0.0"  # noqa: S104 - a worker under an engine is reached from outside, by signed requests


def _tls(env: Mapping[str, str]) -> TlsFiles:
    return TlsFiles(
        Path(env.get("INSTANCE_CERTIFICATE") or TLS_CERTIFICATE),
        Path(env.get("INSTANCE_KEY") or TLS_KEY),
    )


def _model_log(env: Mapping[str, str]) -> Path:
    """The log that ``logwatch.py`` watches: MODEL_LOG, else where the classic scripts write it."""
    if _set(env, "MODEL_LOG"):
        return Path(env["MODEL_LOG"]).absolute()
    return (Path(env.get("SERVER_DIR") or ".") / "infer.log").absolute()
