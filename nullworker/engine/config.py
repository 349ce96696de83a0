"""An engine's configuration: the TOML file, with flags and environment variables over it.

A key that is unknown or has a wrong value is refused in one sentence that names the file, the line, the table
and the key. Endpoint parameters have Vast's own names; what is not given has the core's default. docs/configuration.md
is the page for users.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping  # noqa: TC003 - the store decodes WorkergroupConfig by its types
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.core.parameters import (
    TESTED_PARAMETERS,
    EndpointState,
    ParameterError,
    Parameters,
    WorkergroupSpec,
)
from nullworker.engine.config_overrides import apply_environment, apply_flags
from nullworker.engine.config_source import ConfigError, Source
from nullworker.fleets.base import FleetError, Resources
from nullworker.fleets.registry import fleet_class, fleet_names
from nullworker.views.billing import BILLINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.fleets.base import Fleet

__all__ = [
    "ConfigError",
    "EndpointConfig",
    "EngineConfig",
    "WorkergroupConfig",
    "load_config",
]

DEFAULT_STATE_DIR = "~/.local/state/nullworker"
DEFAULT_ENDPOINT = "null-local"
DEFAULT_FLEET = "processes"
_PARAMETERS = frozenset(each.name for each in fields(Parameters))
#: The backend whose workers hold exactly one reservation each.
NULL_BACKEND = "null"
#: An hour; as `WorkergroupSpec` has it for a running machine.
PRICE_MAX = 1e6
#: No machine has so many.
GPUS_MAX = 1024


class EngineTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[engine]``."""

    host: str = "127.0.0.1"
    port: int = 8080
    state: str = DEFAULT_STATE_DIR
    public_url: str = ""
    tls: bool = False
    tls_certificate: str = ""
    tls_key: str = ""
    insecure: bool = False
    worker_certificates: bool = False
    journal: str = ""
    log_level: str = "info"


class WorkergroupTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[[endpoint.workergroup]]``."""

    fleet: str = DEFAULT_FLEET
    backend: str = NULL_BACKEND
    consumer: str = ""
    env: dict[str, str | int | float | bool] = msgspec.field(default_factory=dict)
    use_ssl: bool = False
    price_per_hour: float = 0.0
    storage_price_per_hour: float = 0.0
    billing: str = "running"
    perf: float = 100.0
    occupancy: int | None = None
    max_workers: int | None = None
    boot_timeout_s: float | None = None
    fallback_after_s: float = 0.0
    gpus: int | None = None
    cpus: float | None = None
    memory_gb: float | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class EndpointTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The keys of ``[[endpoint]]``."""

    name: str
    min_load: float | None = None
    target_util: float | None = None
    cold_mult: float | None = None
    cold_workers: int | None = None
    min_workers: int | None = None
    min_cold_load: float | None = None
    max_workers: int | None = None
    max_queue_time: float | None = None
    target_queue_time: float | None = None
    inactivity_timeout: float | None = None
    endpoint_state: str | None = None
    workergroup: list[WorkergroupTable] = msgspec.field(default_factory=list)


class ConfigTables(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. ``[fleet.NAME]`` is for the fleet to check, ``[dispatch]`` for ``nullworker dispatch``."""

    engine: EngineTable = EngineTable()
    endpoint: list[EndpointTable] = msgspec.field(default_factory=list)
    fleet: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    dispatch: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkergroupConfig:
    """What to run, on which fleet, and what the core should expect of it."""

    fleet: str = DEFAULT_FLEET
    backend: str = NULL_BACKEND
    consumer: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    use_ssl: bool = False
    price_per_hour: float = 0.0
    perf: float = 100.0
    occupancy: int | None = 1
    max_workers: int | None = None
    boot_timeout_s: float | None = None  # None: the core's own
    fallback_after_s: float = 0.0  # cheaper workergroups must have been unable for so long
    storage_price_per_hour: float = 0.0
    billing: str = "running"  # what is billed in which state: nullworker.views.billing.BILLINGS
    #: What each worker needs of its machine; None: as the fleet's settings say.
    gpus: int | None = None
    cpus: float | None = None
    memory_gb: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def resources(self) -> Resources:
        """What a fleet is to give each worker."""
        return Resources(self.gpus, self.cpus, self.memory_gb, self.labels)

    def to_core(self, workergroup_id: int, endpoint_id: int) -> WorkergroupSpec:
        """The core's view of this workergroup.

        Raises:
            ParameterError: a value is out of its bounds.
        """
        group = WorkergroupSpec(
            workergroup_id=workergroup_id,
            endpoint_id=endpoint_id,
            fleet=self.fleet,
            perf=self.perf,
            occupancy=self.occupancy,
            price_per_hour=self.price_per_hour,
            max_workers=self.max_workers,
            fallback_after_s=self.fallback_after_s,
        )
        return group if self.boot_timeout_s is None else replace(group, boot_timeout_s=self.boot_timeout_s)


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """An endpoint of the file."""

    name: str
    parameters: Parameters
    workergroups: tuple[WorkergroupConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """An engine's whole configuration."""

    host: str
    port: int  # 0: any free one
    state: Path
    endpoints: tuple[EndpointConfig, ...] = ()
    #: The settings of each fleet, by its name, for the fleet to check.
    fleets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    #: Where workers reach the engine, when it is not where it listens; "": http(s)://host:port.
    public_url: str = ""
    #: Whether it serves TLS, with a certificate of its own authority or of these files.
    tls: bool = False
    tls_files: tuple[Path, Path] | None = None
    #: Whether a worker's reports are taken over a connection alone on which it has shown its own certificate.
    worker_certificates: bool = False
    journal: Path | None = None
    log_level: str = "info"


def load_config(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Sequence[tuple[str, str]] = (),
) -> EngineConfig:
    """Reads the configuration. Flags stand over variables, variables over the file, the file over the defaults.

    Args:
        file: the TOML file; None: that of ``NULLWORKER_CONFIG``, or one endpoint on local processes.
        environ: the environment, for its ``NULLWORKER_…`` variables; None: none.
        flags: pairs of a key's path (``port``, ``endpoint.null-prod.min_load``) and its value as text.

    Raises:
        ConfigError: something in it is unknown, wrong or out of its bounds, or the file cannot be read.
    """
    environ = environ or {}
    if file is None and environ.get("NULLWORKER_CONFIG"):
        file = Path(environ["NULLWORKER_CONFIG"])
    source = Source.of_default(_default_tree()) if file is None else Source.of_file(file)
    source.convert(ConfigTables)  # an error in the file is one, also where a flag replaces the key
    apply_environment(source, ConfigTables, environ)
    apply_flags(source, ConfigTables, flags)
    return _build(source)


def _default_tree() -> dict[str, Any]:
    tested = {each.name: getattr(TESTED_PARAMETERS, each.name) for each in fields(Parameters) if each.name != "state"}
    return {"endpoint": [{"name": DEFAULT_ENDPOINT, **tested, "workergroup": [{}]}]}


def _build(source: Source) -> EngineConfig:
    tables = source.convert(ConfigTables)
    engine = tables.engine
    source.check(0 <= engine.port <= 65_535, "engine", "port", f"is {engine.port}, and must be from 0 to 65535")
    source.check(bool(engine.host.strip()), "engine", "host", "is empty; 127.0.0.1 is this machine alone")
    source.check(
        engine.log_level in {"debug", "info", "warning", "error"},
        "engine",
        "log_level",
        "must be one of debug, info, warning, error",
    )
    source.check(
        not engine.public_url or engine.public_url.startswith(("http://", "https://")),
        "engine",
        "public_url",
        "must start with http:// or https://",
    )
    _check_tls(source, engine)
    names = [endpoint.name for endpoint in tables.endpoint]
    for index, name in enumerate(names):
        source.check(0 < len(name) <= 200 and name.isprintable(), f"endpoint[{index}]", "name", "is no usable name")
        source.check(name not in names[:index], f"endpoint[{index}]", "name", "is the name of another endpoint, too")
    fleets = _Fleets(fleet_names(), tables.fleet)
    return EngineConfig(
        host=engine.host,
        port=engine.port,
        state=source.path("state", engine.state),
        endpoints=tuple(_endpoint(source, fleets, index, table) for index, table in enumerate(tables.endpoint)),
        fleets=tables.fleet,
        public_url=engine.public_url.rstrip("/"),
        tls=engine.tls or bool(engine.tls_certificate),
        tls_files=(
            (source.path("tls_certificate", engine.tls_certificate), source.path("tls_key", engine.tls_key))
            if engine.tls_certificate
            else None
        ),
        worker_certificates=engine.worker_certificates,
        journal=source.path("journal", engine.journal) if engine.journal else None,
        log_level=engine.log_level,
    )


def _check_tls(source: Source, engine: EngineTable) -> None:
    source.check(
        bool(engine.tls_certificate) == bool(engine.tls_key),
        "engine",
        "tls_key" if engine.tls_certificate else "tls_certificate",
        "is missing: a certificate and its key go together",
    )
    source.check(
        not engine.worker_certificates or engine.tls or bool(engine.tls_certificate),
        "engine",
        "worker_certificates",
        "needs TLS: set tls = true",
    )
    is_plain = not (engine.tls or engine.tls_certificate or engine.insecure)
    source.check(
        not is_plain or _is_loopback(engine.host.strip()),
        "engine",
        "host",
        f"is {engine.host}, beyond this machine, and without TLS keys could be read on the way; set tls = true, or "
        "insecure = true where a TLS proxy of this machine is the only caller",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class _Fleets:
    """The fleets that workergroups may name, and the settings of each."""

    names: Sequence[str]
    settings: Mapping[str, Mapping[str, object]]
    _classes: dict[str, type[Fleet]] = field(default_factory=dict)

    def check_backend(self, fleet: str, backend: str) -> None:
        """Raises FleetError where the fleet cannot be loaded, or cannot run the backend."""
        if fleet not in self._classes:
            self._classes[fleet] = fleet_class(fleet)
        self._classes[fleet].check_backend(self.settings.get(fleet, {}), backend)


def _endpoint(source: Source, fleets: _Fleets, index: int, table: EndpointTable) -> EndpointConfig:
    where = f"endpoint[{index}]"
    values = msgspec.structs.asdict(table)
    cold, alias = values["cold_workers"], values.pop("min_workers")
    source.check(
        cold is None or alias is None or cold == alias, where, "min_workers", f"is {alias}, but cold_workers is {cold}"
    )
    values["cold_workers"] = alias if cold is None else cold
    state = values.pop("endpoint_state") or EndpointState.ACTIVE.value
    states = [each.value for each in EndpointState]
    source.check(state in states, where, "endpoint_state", f"must be one of {', '.join(states)}")
    given = {name: value for name, value in values.items() if name in _PARAMETERS and value is not None}
    try:
        parameters = Parameters(**given, state=EndpointState(state))
    except ParameterError as error:
        raise source.error(where, error.name, _without_name(error)) from None
    groups = tuple(
        _workergroup(source, fleets, f"{where}.workergroup[{n}]", group) for n, group in enumerate(table.workergroup)
    )
    return EndpointConfig(table.name, parameters, groups)


def _workergroup(source: Source, fleets: _Fleets, where: str, table: WorkergroupTable) -> WorkergroupConfig:
    backend = table.backend
    source.check(
        bool(backend) and backend.replace("_", "").isalnum() and backend.isascii(),
        where,
        "backend",
        "must be letters, digits and _, as in python -m workers.BACKEND.worker",
    )
    source.check(bool(table.fleet), where, "fleet", "is empty; a fleet on this machine is processes")
    source.check(
        table.fleet in fleets.names,
        where,
        "fleet",
        f"is {table.fleet!r}, and no fleet of that name is installed; give one of: {', '.join(fleets.names)}",
    )
    try:
        fleets.check_backend(table.fleet, backend)
    except FleetError as error:
        raise source.error(
            where, "backend", f"is refused by the fleet {table.fleet}: {str(error).rstrip('.')}"
        ) from None
    for name in table.env:
        source.check(bool(name) and "=" not in name and name.isprintable(), where, "env", f"has the variable {name!r}")
    source.check(
        table.billing in BILLINGS, where, "billing", f"is {table.billing!r}, and must be one of {', '.join(BILLINGS)}"
    )
    source.check(
        0 <= table.storage_price_per_hour <= PRICE_MAX,
        where,
        "storage_price_per_hour",
        f"is {table.storage_price_per_hour:g}, and must be from 0 to {PRICE_MAX:g}",
    )
    _check_resources(source, where, table)
    occupancy = table.occupancy
    if occupancy is None and backend == NULL_BACKEND:
        occupancy = 1
    values = {**msgspec.structs.asdict(table), "occupancy": occupancy, "env": _texts(table.env)}
    group = WorkergroupConfig(**values)
    try:
        group.to_core(0, 0)
    except ParameterError as error:
        raise source.error(where, error.name, _without_name(error)) from None
    return group


def _check_resources(source: Source, where: str, table: WorkergroupTable) -> None:
    gpus = table.gpus
    source.check(gpus is None or 0 <= gpus <= GPUS_MAX, where, "gpus", f"is {gpus}, and must be from 0 to {GPUS_MAX}")
    for name in ("cpus", "memory_gb"):
        value = getattr(table, name)
        source.check(value is None or 0 < value <= PRICE_MAX, where, name, f"is {value}, and must be over 0")


def _texts(env: Mapping[str, str | float | bool]) -> dict[str, str]:
    """Values as the environment has them: true and false in small letters, as shells write them."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in env.items()}


def _without_name(error: ParameterError) -> str:
    return str(error).removeprefix(f"{error.name} ")
