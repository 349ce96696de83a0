"""The settings of the Ray fleet: the keys of ``[fleet.ray]``, checked when the fleet is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import msgspec

from nullworker.fleets.base import FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
#: What brings packages to a node; with any of these but ``pip`` as a list, the fleet adds none of its own.
_INSTALLERS = ("pip", "uv", "conda", "image_uri", "container")
#: Keys of a ``runtime_env`` that are the fleet's own.
_OURS = ("working_dir", "py_modules")


class RaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings with their defaults."""

    #: The engine's state directory; the engine gives it.
    state_dir: str
    #: Of Ray's dashboard, which has the Jobs API: ``http://HOST:8265``.
    address: str
    #: A file with Ray's authentication token; "": as Ray's own tools find it.
    token_file: str = ""
    #: The interpreter on the nodes.
    python: str = "python"
    #: Whether Ray installs on the nodes what workers need.
    install: bool = True
    #: A directory of this machine that each node gets a copy of, where consumers are started; "": none.
    code: str = ""
    #: Where consumers are started on the nodes, if there is no ``code``; "": in Ray's working directory of the job.
    consumer_dir: str = ""
    #: Directories of this machine that hold a ``workers`` folder; each node gets a copy.
    workers_path: str | list[str] = []
    #: A runtime environment, as Ray takes it; ``working_dir`` and ``py_modules`` are the fleet's own.
    runtime_env: dict[str, Any] = {}
    #: What a worker asks for whose workergroup does not say.
    cpus_per_worker: _Amount = 1.0
    gpus_per_worker: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    #: Custom resources that each worker asks for.
    resources: dict[str, _Amount] = {}
    #: Variables of the nodes' environment that workers get beside the usual ones.
    pass_env: list[str] = []
    #: The address that workers listen on and are reached at; "": that from which their node reaches the engine.
    host: str = ""
    #: So many jobs of one kind may wait for a place; a further worker is a shortage.
    backlog: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    #: How often Ray is asked for its list of jobs, at most.
    jobs_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 30.0
    #: Seconds between asking a worker's processes to end (SIGTERM) and ending them (SIGKILL).
    grace_s: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 10

    @property
    def workers_paths(self) -> list[str]:
        """``workers_path`` as a list."""
        return [self.workers_path] if isinstance(self.workers_path, str) else self.workers_path

    def with_packages(self, requirements: tuple[str, ...]) -> dict[str, Any]:
        """The runtime environment of a worker, with what workers need where the settings want it installed.

        Args:
            requirements: as pip takes them.
        """
        environment = dict(self.runtime_env)
        own = environment.get("pip")
        if self.install and (isinstance(own, list) or not any(name in environment for name in _INSTALLERS)):
            environment["pip"] = [*requirements, *(own or ())]
        return environment


def read_settings(settings: Mapping[str, object]) -> RaySettings:
    """The settings out of a configuration's table, with absolute paths.

    Raises:
        FleetError: a key is unknown, missing or of a wrong type, or what it names is not there.
    """
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
    try:
        read = msgspec.convert(plain, RaySettings)
    except msgspec.ValidationError as error:
        raise FleetError(f"The settings of the Ray fleet are wrong ({error}): correct [fleet.ray].") from error
    if not _is_address(read.address):
        raise FleetError(
            f"{read.address!r} is no address of Ray's dashboard: address of [fleet.ray] is http://HOST:8265 by default."
        )
    taken = [name for name in _OURS if name in read.runtime_env]
    if taken:
        raise FleetError(
            f"{taken[0]} of runtime_env in [fleet.ray] is the fleet's own: name your directory as code instead."
        )
    if read.code and not Path(read.code).expanduser().is_dir():
        raise FleetError(f"{read.code}, which is code of [fleet.ray], is no directory: correct it.")
    return msgspec.structs.replace(
        read,
        state_dir=str(Path(read.state_dir).expanduser().resolve()),
        address=read.address.rstrip("/"),
        code=str(Path(read.code).expanduser().absolute()) if read.code else "",
        workers_path=[str(Path(path).expanduser().absolute()) for path in read.workers_paths],
    )


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def read_token(settings: RaySettings, environ: Mapping[str, str]) -> str:
    """Ray's authentication token, as its own tools find it unless the settings name a file; "": there is none.

    Args:
        settings: of the fleet.
        environ: the engine's environment.

    Raises:
        FleetError: the file that was named cannot be read.
    """
    own = Path("~/.ray/auth_token")
    named = settings.token_file or ("" if environ.get("RAY_AUTH_TOKEN") else environ.get("RAY_AUTH_TOKEN_PATH", ""))
    if not named and environ.get("RAY_AUTH_TOKEN"):
        return environ["RAY_AUTH_TOKEN"].strip()
    try:
        return Path(named or own).expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        if not named:
            return ""
        raise FleetError(f"Ray's token cannot be read from {named} ({error}): correct token_file.") from error
