"""What is kept on disk of each instance, so that the next engine can adopt it.

    <state>/fleets/processes/<mark>/<worker id>/     one directory an instance, also its working directory
        instance.json                                its record: how it was made, how it ended (0600: it holds a token)
        worker.log  worker.log.1                     what it printed

A directory under its own name is an instance, complete: it is filled under a name with a dot and then renamed, and
renamed back before it is removed, so that a crash at any point leaves either an instance or a dotted remnant.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from nullworker.fleets.base import InstanceSpec, Resources
from nullworker.fleets.processes.proc import Process, boot_id
from nullworker.fleets.remnants import Remnants

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_NAME = "instance.json"
LOG_NAME = "worker.log"
_NEW_PREFIX = ".new-"
_GONE_PREFIX = ".gone-"
#: Longer names are shortened: file systems take 255 bytes.
_NAME_CHARACTERS_MAX = 100


class Ports(msgspec.Struct, frozen=True):
    """The ports of one worker, all on the fleet's host."""

    worker: int
    http: int
    control: int


class Record(msgspec.Struct, kw_only=True):
    """What is known of an instance; see `InstanceSpec` for the fields that it shares."""

    worker_id: int
    endpoint: str
    workergroup_id: int
    backend: str
    report_addr: str
    worker_token: str
    consumer: str
    env: dict[str, str]
    use_ssl: bool
    ports: Ports
    #: Was told to stop, and not to start since.
    stopped: bool = False
    #: Its first process, as long as anything of it may run; ``boot`` names the machine's boot, which numbers belong to.
    pid: int | None = None
    start_ticks: int = 0
    boot: str = ""
    #: How it ended, when it ended by itself.
    exit_detail: str = ""
    #: Where in its log the present run began.
    log_offset: int = 0
    #: How many GPUs its workergroup asks for, and which it has, or had when it last ran (None: it may use all).
    gpus_asked: int | None = None
    gpus: list[str] | None = None

    @classmethod
    def of(cls, spec: InstanceSpec, ports: Ports) -> Record:
        """A record for a new instance."""
        return cls(
            worker_id=spec.worker_id,
            endpoint=spec.endpoint,
            workergroup_id=spec.workergroup_id,
            backend=spec.backend,
            report_addr=spec.report_addr,
            worker_token=spec.worker_token,
            consumer=spec.consumer,
            env=dict(spec.env),
            use_ssl=spec.use_ssl,
            ports=ports,
            gpus_asked=spec.resources.gpus,
        )

    @property
    def spec(self) -> InstanceSpec:
        """What the instance was created with."""
        return InstanceSpec(
            worker_id=self.worker_id,
            endpoint=self.endpoint,
            workergroup_id=self.workergroup_id,
            backend=self.backend,
            report_addr=self.report_addr,
            worker_token=self.worker_token,
            consumer=self.consumer,
            env=self.env,
            use_ssl=self.use_ssl,
            resources=Resources(gpus=self.gpus_asked),
        )

    @property
    def leader(self) -> Process | None:
        """Its first process, unless the machine was restarted since."""
        if self.pid is None or self.boot != boot_id():
            return None
        return Process(self.pid, self.start_ticks)

    def set_leader(self, leader: Process | None) -> None:
        """Records the first process of a run, or that nothing of it runs."""
        self.pid = leader.pid if leader else None
        self.start_ticks = leader.start_ticks if leader else 0
        self.boot = boot_id() if leader else ""


def safe_name(text: str) -> str:
    """A name for a file or directory: ``text`` itself where that is harmless, else escaped, and never too long."""
    name = quote(text, safe=" +,=@")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _NAME_CHARACTERS_MAX:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = name[: _NAME_CHARACTERS_MAX - len(digest) - 1] + "-" + digest
    return name


class Directory:
    """All instances of one mark, as directories."""

    def __init__(self, state_dir: str, mark: str) -> None:
        self.root = Path(state_dir) / "fleets" / "processes" / safe_name(mark)
        self.logs_root = Path(state_dir) / "logs"
        self._remnants = Remnants()

    def prepare(self) -> None:
        """Makes the directory, and removes what a crash left half-made or half-removed. Raises OSError."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.root.iterdir():
            if path.name.startswith((_NEW_PREFIX, _GONE_PREFIX)):
                self._remnants.try_to_remove(path)

    def path(self, worker_id: int) -> Path:
        """Where an instance lives."""
        return self.root / str(worker_id)

    def log_path(self, worker_id: int) -> Path:
        """The log of an instance that exists."""
        return self.path(worker_id) / LOG_NAME

    def kept_log_path(self, endpoint: str, worker_id: int) -> Path:
        """The log of an instance that was destroyed."""
        return self.logs_root / safe_name(endpoint) / f"worker-{worker_id}.log"

    def log_paths(self, worker_id: int) -> Iterator[Path]:
        """Where the log of an instance may be: while it exists, and after it was destroyed."""
        yield self.log_path(worker_id)
        yield from self.logs_root.glob(f"*/worker-{worker_id}.log")

    def ids(self) -> Iterator[int]:
        """The ids of all instances there are."""
        for name in [path.name for path in self.root.iterdir()]:
            if name.isascii() and name.isdigit() and str(int(name)) == name:
                yield int(name)

    def add(self, record: Record) -> None:
        """Makes an instance's directory. Raises OSError, and then there is none."""
        self._remnants.sweep()
        temporary = self.root / f"{_NEW_PREFIX}{record.worker_id}"
        try:
            temporary.mkdir(mode=0o700)
            _write(temporary / RECORD_NAME, record)
            temporary.rename(self.path(record.worker_id))
        except OSError:
            self._remnants.try_to_remove(temporary)
            raise

    def save(self, record: Record) -> None:
        """Replaces an instance's record in one step: a reader sees the old one or the new one. Raises OSError."""
        path = self.path(record.worker_id) / RECORD_NAME
        temporary = path.with_name(f".{RECORD_NAME}")
        try:
            _write(temporary, record)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def load(self, worker_id: int) -> Record | None:
        """An instance's record; None when it cannot be read."""
        try:
            record = msgspec.json.decode((self.path(worker_id) / RECORD_NAME).read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None
        return record if record.worker_id == worker_id else None

    def remove(self, worker_id: int) -> None:
        """Removes an instance's directory, or what is left of it; also what could not be removed of others before.

        Raises:
            OSError: something of it stays.
        """
        self._remnants.sweep()
        gone = self.root / f"{_GONE_PREFIX}{worker_id}"
        if gone.exists():
            self._remnants.remove(gone)
        try:
            self.path(worker_id).rename(gone)
        except FileNotFoundError:
            return
        self._remnants.remove(gone)


def _write(path: Path, record: Record) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(record))
