"""What ``nullworker doctor`` looks at, as plain values: `machine` and `peers` gather them, `checks` judges them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Package:
    """An installed package, and the lowest version that nullworker declares for it ("": any)."""

    name: str
    installed: str
    lowest: str


@dataclass(frozen=True)
class StateFile:
    """A file of the state directory."""

    name: str
    mode: int
    owner: int
    is_plain: bool = True  # no link, no directory, no device


@dataclass(frozen=True)
class StateFacts:
    """The state directory."""

    path: str
    exists: bool = False
    is_directory: bool = True
    mode: int = 0o700
    owner: int = 0
    us: int = 0
    error: str = ""  # why it cannot be looked at
    files: tuple[StateFile, ...] = ()
    file_system: str = ""
    free_bytes: int = 1 << 40
    free_inodes: int = 1 << 30
    store_version: int | None = None  # of the tables in engine.db; None: there is none
    known_version: int = 0  # the latest that this nullworker knows
    engine_pid: int = 0  # of the engine that uses it; 0: none does


@dataclass(frozen=True)
class WorkerFacts:
    """A worker that is free or held, as its engine and as a connection from here shows it."""

    worker_id: int
    url: str
    is_silent: bool
    error: str = ""  # why it cannot be connected to; "": it can


@dataclass(frozen=True)
class EndpointFacts:
    """An endpoint whose workers fail to start, or whose waiters are not served."""

    name: str
    why: str = ""  # why the first that waits has no worker
    why_code: str = ""
    failures: str = ""  # the last error of a workergroup that has failed


@dataclass(frozen=True)
class EngineFacts:
    """The engine, as it answers here."""

    url: str
    label: str
    is_ours: bool = True  # False: one of Vast's
    is_here: bool = True
    listens: bool = False  # something accepts connections at its address
    answers: bool = False  # and it is an engine of nullworker
    error: str = ""
    key_error: str = ""  # why the key is not good; "": it is
    version: str = ""
    clock_ahead_s: float = 0.0  # the engine's clock, of this machine's
    complaints: tuple[str, ...] = ()
    endpoints: tuple[EndpointFacts, ...] = ()
    workers: tuple[WorkerFacts, ...] = ()
    queues: tuple[str, ...] = ()  # the trouble of each queue that dispatchers told of, in a sentence


@dataclass(frozen=True)
class QueueFacts:
    """A queue, as it is read from here."""

    url: str  # without its password
    error: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnitFacts:
    """The systemd unit that the engine runs in, or that is installed for it, as ``systemctl show`` has it."""

    name: str
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class InitFacts:
    """The first process of this machine or container."""

    name: str = ""
    reaps: bool | None = None  # whether it takes note of the end of an orphan; None: not known
    zombies: int = 0  # its children that have ended, and are still there


@dataclass(frozen=True)
class Facts:
    """All that is looked at."""

    version: str
    python: tuple[int, int]
    packages: tuple[Package, ...]
    state: StateFacts
    engine: EngineFacts
    year: int
    clock_is_synchronised: bool | None  # None: the system does not say
    open_files: tuple[int, int]  # the limit, and how far it may be raised; -1: none
    init: InitFacts
    unit: UnitFacts | None = None
    config_error: str = ""
    queues: tuple[QueueFacts, ...] = ()
