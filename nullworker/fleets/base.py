"""The protocol of a fleet: a place where workers run, which creates, starts, stops, destroys and lists them.

The engine decides; a fleet obeys and reports. Each worker is one instance, and carries the mark of the engine that
created it. A fleet never lists or touches an instance without its own mark.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class InstanceState(enum.Enum):
    """What a fleet knows of an instance. Whether its worker is ready is reported by the worker."""

    RUNNING = "running"
    STOPPED = "stopped"
    EXITED = "exited"  # ended by itself; destroy() removes what is left


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance with the fleet's mark."""

    worker_id: int
    state: InstanceState
    detail: str = ""  # for an exited one: how it ended ("exit code 1", "killed by signal 9"), and the end of its log
    address: str = ""  # host:port at which its worker is reached, where the fleet knows
    #: What it was created for, as its `InstanceSpec` said, where the fleet knows ("" and 0: it does not). An engine
    #: that has lost its store takes its workers over by them.
    endpoint: str = ""
    workergroup_id: int = 0
    #: What this very instance costs an hour, running and for its storage, where the place tells; None: it does not, and
    #: the prices of the workergroup's configuration count.
    price_per_hour: float | None = None
    storage_price_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What a worker needs of the machine that it runs on. None: as the fleet's own settings say.

    A fleet that cannot place by one of these refuses a spec that has it.
    """

    gpus: int | None = None  # whole ones, which no other worker of the fleet has meanwhile
    cpus: float | None = None
    memory_gb: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)  # that the machine must have


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What a fleet needs to make an instance; the engine fills it in."""

    worker_id: int  # becomes CONTAINER_ID
    endpoint: str
    workergroup_id: int
    backend: str  # `python -m workers.<backend>.worker`, or a folder of the classic guide
    report_addr: str  # where the worker reports: REPORT_ADDR
    worker_token: str = field(repr=False)  # becomes MASTER_TOKEN
    consumer: str = ""  # becomes NULL_CONSUMER where it is not empty
    env: Mapping[str, str] = field(default_factory=dict)  # the workergroup's own variables
    use_ssl: bool = False
    resources: Resources = Resources()


@dataclass(frozen=True, slots=True)
class PlaceFree:
    """A fleet that was short of something may have it again: what it refused for that may be asked for at once."""


@dataclass(frozen=True, slots=True)
class EndsSoon:
    """The place ends an instance in ``in_s`` seconds, whatever it does: a time limit, a machine that is taken back."""

    worker_id: int
    in_s: float
    reason: str  # the place's own, as the end of a sentence


Notice = PlaceFree | EndsSoon


def no_notice(notice: Notice) -> None:
    """Ignores what a fleet gives notice of."""


@runtime_checkable
class Rehearses(Protocol):
    """What a fleet may have besides, so that `nullworker doctor --fleet NAME` can ask what it would do."""

    @classmethod
    async def rehearse(cls, settings: Mapping[str, object], resources: Resources) -> str:
        """What would be created for a worker now, and at what price, in one sentence. Creates and changes nothing.

        Args:
            settings: the keys of the fleet's table, and ``state_dir``, as for `Fleet.open`.
            resources: what the worker needs.

        Raises:
            ShortageError: there is no place for it now.
            FleetError: the settings are wrong, or the place refuses or does not answer.
        """


class FleetError(Exception):
    """A verb failed; the message is one sentence: what happened, to what, what to do.

    ``definite`` says that the verb was certainly not carried out. Where it is False (an answer was lost), it may have
    been: ``list`` will tell.
    """

    def __init__(self, message: str, *, definite: bool = True) -> None:
        super().__init__(message)
        self.definite = definite


class ShortageError(FleetError):
    """There is no place for another instance now; there may be one later, without anything being changed.

    The message gives the place's own reason. Certainly nothing was created or started.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, definite=True)


@runtime_checkable
class Fleet(Protocol):
    """Where workers run. All verbs are idempotent and bounded in time (a fleet raises ``FleetError`` when it cannot).

    A fleet is made by ``await SomeFleet.open(settings, mark, on_exit, on_notice)``: ``settings`` are the keys of the
    fleet's table in the configuration, ``mark`` a string that is this engine's alone (stable over restarts),
    ``on_exit`` is called once for each instance that the fleet sees ending without having been told to stop or destroy
    it. What ended while no fleet was open is not announced: ``list`` shows it as exited. ``on_notice`` is called with
    what the fleet learns of its place: that an instance will be ended, or that a shortage may be over.

    Verbs for different workers run at the same time; those for one worker one after another, in the order of the calls.
    A caller that is cancelled while it waits for a verb does not undo it. The conformance kit decides whether a fleet
    keeps all this: `nullworker.testing.fleets.check_fleet`.
    """

    @classmethod
    async def open(
        cls,
        settings: Mapping[str, object],
        mark: str,
        on_exit: Callable[[int, str], None],
        on_notice: Callable[[Notice], None] = no_notice,
    ) -> Fleet:
        """Opens the fleet and adopts what it finds running under ``mark``.

        Args:
            settings: the keys of the fleet's table, and ``state_dir``, the engine's state directory.
            mark: identifies the engine's instances; stable over restarts.
            on_exit: called with a worker's id and how it ended.
            on_notice: called with what is to be known of the place.

        Raises:
            FleetError: the settings are wrong, or the fleet cannot be reached.
        """

    @classmethod
    def check_backend(cls, settings: Mapping[str, object], backend: str) -> None:
        """Returns if workers of ``backend`` can be created with these settings, as far as is known without a fleet.

        Called before the fleet is opened, to check a configuration, and later for each new workergroup: it starts
        nothing and waits for nothing. Settings that are wrong in another way are for `open` to refuse.

        Args:
            settings: the keys of the fleet's table, as for `open`.
            backend: the name that a workergroup gives.

        Raises:
            FleetError: they cannot; the message says what is missing.
        """

    async def create(self, spec: InstanceSpec) -> None:
        """Creates an instance and sets it running. Returns as soon as it exists; it is not ready yet.

        One that exists already, in whatever state, stays as it is, and that is no error.

        Raises:
            ShortageError: there is no place for it now.
            FleetError: it cannot be created, or its creation is uncertain.
        """

    async def start(self, worker_id: int) -> None:
        """Sets a stopped or exited instance running again, with the settings it was created with.

        Raises:
            ShortageError: there is no place for it now.
            FleetError: there is no such instance.
        """

    async def stop(self, worker_id: int) -> None:
        """Stops an instance so that `start` can bring it back. Returns when it no longer runs.

        Raises:
            FleetError: there is no such instance.
        """

    async def destroy(self, worker_id: int) -> None:
        """Ends an instance and everything of it. One that is not there is no error. Returns when it is gone."""

    async def list(self) -> list[Instance]:
        """All instances with the fleet's mark, in whatever state, as the place itself reports them."""

    async def read_log(self, worker_id: int, bytes_max: int) -> bytes:
        """The end of what an instance has printed, also of one that was destroyed where the place keeps that.

        Args:
            worker_id: the worker.
            bytes_max: how much at most.

        Returns:
            The last bytes; empty where there is nothing, or no such instance.

        Raises:
            FleetError: the place does not answer.
        """

    async def close(self, *, destroy: bool = False, grace_s: float | None = None) -> None:
        """Releases the fleet's resources; instances go on running, or with ``destroy`` are destroyed first.

        Closing twice is no error. After it nothing is announced, and every verb raises ``FleetError``.
        Closing again with a shorter ``grace_s`` while the first call is under way shortens its wait.

        Args:
            destroy: destroy all instances first.
            grace_s: how long an instance may take to end by itself; None: as the settings say.

        Raises:
            FleetError: not everything could be destroyed; the resources are released all the same.
        """
