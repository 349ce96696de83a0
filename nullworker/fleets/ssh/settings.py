"""The settings of the SSH fleet: the keys of ``[fleet.ssh]``, checked when the fleet is opened."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from nullworker.fleets.base import FleetError

if TYPE_CHECKING:
    from collections.abc import Mapping

_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Amount = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One machine."""

    #: As ``ssh`` takes it: a name of ~/.ssh/config, a host name or an address, with ``user@`` before it or without.
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] | None = None
    #: The address that its workers listen on and are reached at; "": the one at which SSH reached it.
    address: str = ""
    #: The most workers that it has at once, stopped ones too; None: what its GPUs are enough for, or else 1.
    slots: _Count | None = None
    #: As the process fleet's; None: all that it has.
    gpus: int | list[int | str] | None = None
    #: What its workers may take in all, for workergroups that say what each needs.
    cpus: _Amount | None = None
    memory_gb: _Amount | None = None
    labels: dict[str, str] = {}
    #: What a worker on it costs in an hour; None: as its workergroup says.
    price_per_hour: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None


class SshSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings with their defaults."""

    #: The engine's state directory; the engine gives it.
    state_dir: str
    hosts: list[str | HostSettings] = []
    #: The interpreter on the hosts, 3.10 or later.
    python: str = "python3"
    #: Whether what workers need is installed on a host whose ``python`` lacks it, in a virtual environment.
    install: bool = True
    #: Where everything is on the hosts; in the home directory unless it begins with /.
    remote_dir: str = ".nullworker"
    #: A directory of this machine that each host gets a copy of, where consumers are started; "": none.
    code: str = ""
    #: Where consumers are started on the hosts, if there is no ``code``; "": in the home directory.
    consumer_dir: str = ""
    #: Directories of this machine that hold a ``workers`` folder; each host gets a copy.
    workers_path: str | list[str] = []
    gpus_per_worker: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    #: The private key to log in with, and files to use in place of the user's own; "": as ``ssh`` does by itself.
    identity: str = ""
    known_hosts: str = ""
    ssh_config: str = ""
    #: A connection on which nothing was heard for so many seconds is given up and made again.
    silence_s: Annotated[int, msgspec.Meta(ge=3, le=3600)] = 15
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 10.0
    log_bytes_max: Annotated[int, msgspec.Meta(ge=4096, le=1 << 40)] = 10 * 1024 * 1024
    logs_kept: _Count = 100

    @property
    def workers_paths(self) -> list[str]:
        """``workers_path`` as a list."""
        return [self.workers_path] if isinstance(self.workers_path, str) else self.workers_path

    @property
    def all_hosts(self) -> list[HostSettings]:
        """The hosts, each with its settings."""
        return [HostSettings(host=each) if isinstance(each, str) else each for each in self.hosts]


def read_settings(settings: Mapping[str, object]) -> SshSettings:
    """The settings out of a configuration's table, with absolute paths.

    Raises:
        FleetError: a key is unknown, missing or of a wrong type, a host is named twice or none is, a file is not there,
            or this machine has no ``ssh``.
    """
    plain = {key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in settings.items()}
    try:
        read = msgspec.convert(plain, SshSettings)
    except msgspec.ValidationError as error:
        raise FleetError(f"The settings of the SSH fleet are wrong ({error}): correct [fleet.ssh].") from error
    names = [host.host for host in read.all_hosts]
    if not names:
        raise FleetError('The SSH fleet has no host: name some, as in hosts = ["box-1", "me@10.0.0.5"] of [fleet.ssh].')
    for name in names:
        if name.startswith("-") or not name.strip() or not name.isprintable() or " " in name:
            raise FleetError(f"{name!r} cannot be a host of the SSH fleet: give what you would give to ssh.")
        if names.count(name) > 1:
            raise FleetError(f"The host {name} is named twice in [fleet.ssh]: name it once, with its slots.")
    if shutil.which("ssh") is None:
        raise FleetError("The SSH fleet needs the program ssh on this machine (Debian: openssh-client): install it.")
    changes = {key: _absolute(getattr(read, key)) for key in ("code", "identity", "known_hosts", "ssh_config")}
    for key, path in changes.items():
        if path and key != "known_hosts" and not Path(path).exists():
            raise FleetError(f"There is no {path}, which {key} of [fleet.ssh] names.")
    return msgspec.structs.replace(
        read,
        state_dir=str(Path(read.state_dir).expanduser().resolve()),
        workers_path=[_absolute(path) for path in read.workers_paths],
        **changes,
    )


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""
