"""The protocol of a queue adapter, which reads how deep a user's queue is, and takes nothing from it.

An adapter never consumes, acknowledges or alters a message. It keeps what is unknown apart from what is zero: an
unknown number in flight is ``None``, never 0, and a failed reading is an exception, never an empty queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nullworker.demand.depth import Depth

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Depth", "NamesConsumers", "Queue", "QueueError", "QueueInfo", "QueueUrlError", "QueueWarning", "TakenJob"]


@dataclass(frozen=True, slots=True)
class QueueWarning:
    """A likely problem of a queue: a code, and a sentence that says what to do."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class TakenJob:
    """A job in flight, and the consumer that has it, as the broker names both."""

    job: str
    #: The name that the consumer gave itself; the dispatcher looks for the reservation's `NULL_SESSION_ID` in it.
    consumer: str


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """What ``nullworker dispatch --check`` prints of a queue beside its depth."""

    kind: str
    name: str
    broker: str
    #: Seconds after which the broker redelivers an unacknowledged message; None: never, or unknown.
    lease_s: float | None = None
    #: How late the broker's numbers may be, in seconds: for that long they may show jobs of closed reservations.
    lag_s: float = 0.0
    #: Whether ``changed`` returns early when the queue changes.
    pushes: bool = False
    warnings: tuple[QueueWarning, ...] = field(default=())


class QueueError(Exception):
    """A queue cannot be read; the message is one sentence: what happened, to which queue, what to do."""


class QueueUrlError(QueueError):
    """The URL itself is wrong, or what it names cannot be a queue: trying again is useless."""


@runtime_checkable
class Queue(Protocol):
    """A user's queue, opened from a URL by ``await SomeQueue.open(url)`` and used as an async context manager."""

    @classmethod
    async def open(cls, url: str) -> Queue:
        """Opens the queue that ``url`` names.

        Raises:
            QueueUrlError: the URL is wrong.
            QueueError: the broker refuses (``QueueError.__cause__`` may tell more).
        """

    async def depth(self) -> Depth:
        """Reads the queue once.

        Raises:
            QueueError: the broker did not answer, or its answer made no sense.
        """

    async def info(self) -> QueueInfo:
        """Reads facts about the queue and its settings, with warnings of likely problems."""

    async def changed(self, timeout_s: float) -> bool:
        """Returns True as soon as the queue may have changed, False after ``timeout_s`` seconds without a sign of it.

        A queue whose broker cannot push sleeps for ``timeout_s`` and returns False.
        """

    async def close(self) -> None:
        """Closes every connection. Closing twice is no error."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...


@runtime_checkable
class NamesConsumers(Protocol):
    """What a queue has beside `Queue` if its broker keeps with each job in flight which consumer has it."""

    async def taken(self) -> list[TakenJob]:
        """Jobs in flight whose consumer is known, some hundreds at most; takes nothing and changes nothing.

        Raises:
            QueueError: as for `Queue.depth`.
        """
