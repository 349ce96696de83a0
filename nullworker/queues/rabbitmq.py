"""A queue of RabbitMQ, read over its management API.

    rabbitmq+http://user:password@host:15672/vhost/queue        (or rabbitmq+https)
    rabbitmq+http://user:password@host:15672/vhost/queue?acks_late=true     consumers acknowledge when a job is done

The virtual host ``/`` is written ``%2F``, or left out. The user needs the tag ``management`` or ``monitoring``.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote

from nullworker.queues._rabbitmq import (
    CONNECTIONS,
    CONSUMER_TIMEOUT_S,
    DELAY_QUEUE_SUFFIX,
    Management,
    delay_queue,
    missing_queue,
    timeout_warning,
)
from nullworker.queues.base import Depth, Queue, QueueError, QueueInfo, QueueUrlError, QueueWarning
from nullworker.queues.urls import parse_url

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from nullworker.queues._rabbitmq import Json
    from nullworker.queues.connections import Connections
    from nullworker.queues.urls import QueueUrl

#: Jobs on a GPU run for minutes or hours; a lease shorter than this needs a word in --check.
LONG_JOB_S = 3600.0
#: A quorum queue renews its counts every five seconds; a classic one is asked itself.
QUORUM_LAG_S = 5.0
#: How long it counts what consumers were said to be; the list of them is five seconds old anyway.
CONSUMERS_KEPT_S = 10.0
#: What a queue says of itself while it can say how deep it is.
ALIVE = frozenset(("running", "live", "idle", "flow", "syncing"))

#: How Celery's workers call themselves: its library kombu counts its consumers so.
KOMBU_TAG = re.compile(r"None[0-9]+")

ACKS_UNKNOWN = QueueWarning(
    "in-flight-unknown",
    "RabbitMQ does not show whether consumers acknowledge a message before its job or after it, so that what is in "
    "flight is unknown: if all do so after the job (Celery only with task_acks_late), add ?acks_late=true to the URL.",
)


class RabbitmqQueue:
    """Reads a queue over the management API. Opened by ``await RabbitmqQueue.open(url)``."""

    CONNECTIONS: ClassVar[Connections] = CONNECTIONS

    def __init__(self, url: QueueUrl, api: Management, name: str, *, acks_late: bool, ignores_delayed: bool) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            api: of its virtual host.
            name: of the queue.
            acks_late: whether its consumers acknowledge a message when its job is done.
            ignores_delayed: whether what waits in the delay queue of dramatiq beside it calls for no worker.
        """
        self._url = url
        self._api = api
        self._name = name
        self._acks_late = acks_late
        self._ignores_delayed = ignores_delayed
        self._acknowledges = True
        self._saw_consumers = False  # only of those that are seen is it known that they acknowledge
        self._consumers_at = float("-inf")
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Reads the queue once.

        Raises:
            QueueError: the URL is wrong, the API cannot be reached or refuses, or there is no such virtual host.
        """
        # In the management interface, the address of a queue's page has the number sign.
        parts = parse_url(
            url.replace("/#/queues/", "/api/queues/", 1),
            parameters=("acks_late", "ignore_delayed"),
            connections=cls.CONNECTIONS,
        )
        prefix, vhost, name = _segments(parts)
        acks_late, ignores_delayed = parts.flag("acks_late"), parts.flag("ignore_delayed")
        api = Management.share(parts, vhost, prefix)
        queue = cls(parts, api, name, acks_late=acks_late, ignores_delayed=ignores_delayed)
        try:
            await queue.depth()
        except BaseException:
            await queue.close()
            raise
        return queue

    async def depth(self) -> Depth:
        """Reads the counts that the queue itself gives, together with others' of the same virtual host.

        Raises:
            QueueError: the API cannot be reached or refuses, or the queue is down or no queue.
        """
        self._check_open()
        now = time.time()  # noqa: TID251 - a wall-clock stamp, for the dispatcher to compare with its own
        counts = await self._api.counts(self._name)
        if counts is None:
            return Depth(0, 0, now, exact=False)
        if counts.get("type") == "stream":
            raise QueueError(f"{self._shown} is a stream, which keeps its messages: it is never empty, and no queue.")
        ready, unacknowledged = counts.get("messages_ready"), counts.get("messages_unacknowledged")
        if counts.get("state", "running") not in ALIVE or not isinstance(ready, int):
            raise QueueError(
                f"{self._shown} does not tell its depth, and says it is {counts.get('state', 'unknown')!r}."
            )
        if time.monotonic() - self._consumers_at > CONSUMERS_KEPT_S:
            self._look_at_consumers(await self._api.details(self._name))
        due, delayed = self._beside(counts)
        single = (counts.get("arguments") or {}).get("x-single-active-consumer")
        is_seen = self._acks_late and (self._acknowledges or bool(unacknowledged))
        in_flight = unacknowledged if is_seen else None
        return Depth(
            ready + due,
            in_flight,
            now,
            delayed=delayed,
            parallel_max=1 if single else None,
            exact=self._saw_consumers and not due,
        )

    def _beside(self, counts: Json) -> tuple[int, int]:
        """What the delay queue adds to what waits and to what is delayed: a worker holds in memory what is not due."""
        beside = counts.get(DELAY_QUEUE_SUFFIX) or {}
        ready, held = beside.get("messages_ready") or 0, beside.get("messages_unacknowledged") or 0
        return (0, ready + held) if self._ignores_delayed else (ready, held)

    async def info(self) -> QueueInfo:
        """Warns of prefetch, early acknowledgement, time limits, and settings that lose or serialise jobs.

        Raises:
            QueueError: as for `depth`.
        """
        self._check_open()
        details, version, counts = await asyncio.gather(
            self._api.details(self._name), self._api.version(), self._api.counts(self._name)
        )
        due, _ = self._beside(counts or {})
        self._look_at_consumers(details)
        lease_s = _lease_s(details or {})
        return QueueInfo(
            kind="rabbitmq",
            name=f"{self._api.vhost.rstrip('/')}/{self._name}",
            broker=f"{self._api.shown} (server {version})",
            lease_s=lease_s,
            lag_s=0.0
            if (details or {}).get("type") == "classic"
            else QUORUM_LAG_S,  # one that is missing may be either
            warnings=(
                *self._api.tls_warnings,
                *(
                    [missing_queue(self._name)]
                    if details is None
                    else [
                        *_warnings(details, lease_s),
                        *([] if self._acks_late else [ACKS_UNKNOWN]),
                        *([delay_queue(self._name, due)] if due else []),
                    ]
                ),
            ),
        )

    async def changed(self, timeout_s: float) -> bool:
        """Sleeps: RabbitMQ announces a message only to the consumers that take it."""
        self._check_open()
        await asyncio.sleep(timeout_s)
        return False

    async def close(self) -> None:
        """Lets go of the session."""
        if not self._closed:
            self._closed = True
            await self._api.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _shown(self) -> str:
        return f"The queue {self._name} in virtual host {self._api.vhost!r}"

    def _check_open(self) -> None:
        if self._closed:
            raise QueueError(f"{self._shown} was closed.")

    def _look_at_consumers(self, details: Json | None) -> None:
        """Remembers whether consumers acknowledge; with none of them about, what was last seen holds."""
        self._consumers_at = time.monotonic()
        consumers = (details or {}).get("consumer_details") or []
        self._saw_consumers = bool(consumers)
        if consumers:
            self._acknowledges = all(consumer.get("ack_required", True) for consumer in consumers)


def _segments(url: QueueUrl) -> tuple[str, str, str]:
    """Path prefix, virtual host and name of a queue.

    Raises:
        QueueUrlError: the path has no name of a queue, or too many parts.
    """
    before, api, after = url.raw_path.rpartition("/api/queues/")
    prefix = url.parameters.get("path_prefix", unquote(before) if api else "").strip("/")
    segments = [unquote(segment) for segment in (after if api else url.raw_path.removeprefix("/")).split("/")]
    if len(segments) not in {1, 2} or not segments[-1]:
        raise QueueUrlError(f"{url.shown}: write rabbitmq+http://user:password@host:15672/vhost/queue.")
    vhost = segments[0] if len(segments) == 2 and segments[0] else "/"
    return (f"/{prefix}" if prefix else ""), vhost, segments[-1]


def _lease_s(details: Json) -> float:
    """Seconds after which RabbitMQ closes the channel of a consumer that has not acknowledged."""
    timeout_ms = (details.get("arguments") or {}).get("x-consumer-timeout")
    timeout_ms = timeout_ms or (details.get("effective_policy_definition") or {}).get("consumer-timeout")
    return timeout_ms / 1000 if isinstance(timeout_ms, int) else CONSUMER_TIMEOUT_S


def _warnings(details: Json, lease_s: float) -> list[QueueWarning]:
    warnings = []
    consumers = details.get("consumer_details") or []
    prefetches = [consumer.get("prefetch_count", 0) for consumer in consumers if consumer.get("ack_required", True)]
    if any(prefetch != 1 for prefetch in prefetches):
        most = "any number of" if 0 in prefetches else f"up to {max(prefetches)}"
        warnings.append(
            QueueWarning(
                "prefetch",
                f"Consumers are given {most} messages at a time, so that more are in flight than are worked on: set "
                "their prefetch count to 1.",
            )
        )
    if any(not consumer.get("ack_required", True) for consumer in consumers):
        warnings.append(
            QueueWarning(
                "early-ack",
                "Consumers take messages without acknowledging them, so that what is in flight is unknown and a job "
                "whose worker dies is lost: acknowledge after the job.",
            )
        )
    if details.get("type") == "classic" and any(KOMBU_TAG.fullmatch(c.get("consumer_tag", "")) for c in consumers):
        warnings.append(
            QueueWarning(
                "eta-in-worker",
                "Celery's workers take tasks with an ETA or a countdown, and retries, at once and keep "
                "them until they are due: each holds a worker meanwhile. With Celery 5.5 declare a quorum queue.",
            )
        )
    if lease_s < LONG_JOB_S:
        warnings.append(timeout_warning(lease_s))
    arguments = {**(details.get("effective_policy_definition") or {}), **(details.get("arguments") or {})}
    if arguments.get("x-single-active-consumer"):
        warnings.append(
            QueueWarning(
                "serialised",
                "The queue has a single active consumer, so that all workers but one would idle: leave that argument "
                "out, or use --max 1.",
            )
        )
    if details.get("auto_delete") or "x-expires" in arguments or "expires" in arguments:
        warnings.append(
            QueueWarning(
                "vanishes",
                "The queue is deleted with all that waits in it when its consumers have gone, as they do at zero "
                "workers: declare it without auto-delete and x-expires.",
            )
        )
    return warnings


_: type[Queue] = RabbitmqQueue
