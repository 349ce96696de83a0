"""A consumer of a NATS JetStream stream.

    nats://user:password@host:4222?stream=JOBS&consumer=workers
    nats+tls://token@host:4222?stream=JOBS&consumer=workers&domain=hub        (see docs/queues.md for more)

Also ``subject=`` (what the consumer will filter, while neither it nor the stream may be there yet) and ``creds=`` (a
credentials file; needs ``pip install nkeys``); ``acks_late=false`` if consumers acknowledge a message before they work
on it, so that what is in flight is unknown. Undelivered messages are waiting, delivered and unacknowledged
ones are in flight; that includes those which their consumer put off by a delayed negative acknowledgement, because
JetStream does not tell them apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, ClassVar

import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy
from nats.js.errors import NotFoundError, ServiceUnavailableError

from nullworker.queues._nats_connections import CONNECTIONS, NatsServers
from nullworker.queues._waiting import wait_set
from nullworker.queues.base import Depth, Queue, QueueError, QueueInfo, QueueWarning
from nullworker.queues.urls import parse_url
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from nats.js import JetStreamContext
    from nats.js.api import ConsumerInfo
    from typing_extensions import Self

    from nullworker.queues.connections import Connections
    from nullworker.queues.urls import QueueUrl

CONNECT_LIMIT_S = 5
REQUEST_LIMIT_S = 5.0
#: nats-py waits for ever for the end of a connection whose TLS handshake failed.
CLOSE_LIMIT_S = 0.5
#: Jobs on a GPU run for minutes or hours; a lease shorter than this needs a word in --check.
LONG_JOB_S = 3600.0
#: Vast's default of ``max_workers``; a consumer that gives out fewer messages at a time caps the fleet.
MAX_WORKERS = 16


class NatsQueue:
    """Reads a JetStream consumer. Opened by ``await NatsQueue.open(url)``."""

    CONNECTIONS: ClassVar[Connections] = CONNECTIONS

    def __init__(self, url: QueueUrl) -> None:
        self._url = url
        self._acks_late = url.flag("acks_late", default=True)
        self._stream = url.text("stream")
        self._consumer = url.text("consumer")
        self._servers = NatsServers.of(url)
        self._shown = self._servers.shown
        self._pending_since_s: float | None = None  # messages are unacknowledged, at each reading since
        self._delivered = 0  # the last message of the stream that the consumer was seen to have been given
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._change_event = asyncio.Event()
        self._ears: set[str] = set()  # subjects of which one message will reach us
        self._subjects: tuple[str, ...] = ()
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connects, and reads the consumer once.

        Raises:
            QueueError: the URL is wrong, the server cannot be reached or refuses, or has no JetStream.
        """
        names = ("stream", "consumer", "subject", "domain", "acks_late")
        queue = cls(parse_url(url, parameters=names, connections=cls.CONNECTIONS))
        try:
            await queue.depth()
            await queue._listen()
        except BaseException:
            await queue.close()
            raise
        return queue

    async def depth(self) -> Depth:
        """Asks the server for the consumer's counts; without a consumer, all that is in the stream waits for it.

        Raises:
            QueueError: the server cannot be reached, refuses, or has no JetStream.
        """
        now = time.time()  # noqa: TID251 - a wall-clock stamp, for the dispatcher to compare with its own
        info = await self._consumer_info()
        if info is None:
            return Depth(await self._stored(), 0, now, exact=False)
        self._delivered = info.delivered.stream_seq if info.delivered else 0
        acknowledges = self._acks_late and info.config.ack_policy != AckPolicy.NONE
        limit = info.config.max_ack_pending
        paused = bool(getattr(info, "paused", None))  # servers from 2.11 can pause a consumer
        pending = int(info.num_ack_pending or 0)
        return Depth(
            waiting=0 if paused else int(info.num_pending or 0),
            in_flight=pending if acknowledges else None,
            # What is over its lease is given out again only when a consumer asks, and pending until then.
            abandoned=(None if pending else 0) if acknowledges else self._left(pending, _lease_s(info)),
            sampled_at_s=now,
            parallel_max=limit if info.config.ack_policy != AckPolicy.NONE and limit and limit > 0 else None,
            paused=paused,
            redelivered=int(info.num_redelivered or 0),
        )

    def _left(self, pending: int, lease_s: float | None) -> int:
        """How many messages stay unacknowledged though consumers acknowledge at once: those consumers have died."""
        if not pending or lease_s is None:
            self._pending_since_s = None
            return 0
        now_s = time.monotonic()
        self._pending_since_s = now_s if self._pending_since_s is None else self._pending_since_s
        return pending if now_s - self._pending_since_s > lease_s else 0

    async def info(self) -> QueueInfo:
        """Warns of leases that jobs outlive, of limits below the fleet's, and of consumers that hide what they do.

        Raises:
            QueueError: as for `depth`.
        """
        info = await self._consumer_info()
        version = (await self._connected()).connected_server_version
        lease_s = None if info is None else _lease_s(info)
        pushes = bool(self._subjects)
        if info is not None:
            warnings = _warnings(info, lease_s)
        elif await self._stream_subjects() is not None:
            warnings = [_missing(f"consumer {self._consumer}", "all messages in the stream count as waiting")]
        else:
            pushes = True  # the stream's creation is heard, and then what is published
            warnings = [_missing(f"stream {self._stream}", "nothing counts as waiting")]
        return QueueInfo(
            kind="nats",
            name=f"{self._stream}/{self._consumer}",
            broker=f"{self._shown} (server {version.major}.{version.minor}.{version.patch})",
            lease_s=lease_s,
            pushes=pushes,
            warnings=(*self._servers.warnings(), *warnings),
        )

    async def changed(self, timeout_s: float) -> bool:
        """True when a message was published to the stream's subjects since this last said so.

        The adapter has itself sent one message of each subject, at most, between two calls; it reads none.
        """
        deadline = time.monotonic() + timeout_s
        try:
            was_deaf = self._client is None or self._client.is_closed
            await within(self._listen(), timeout_s)
        except (QueueError, asyncio.TimeoutError):
            self._check_open()
            await asyncio.sleep(max(0.0, deadline - time.monotonic()))
            return False
        if was_deaf:
            self._change_event.clear()
            return True
        heard = await wait_set(self._change_event, deadline - time.monotonic())
        if heard:
            with contextlib.suppress(QueueError):
                await self._listen()  # before the caller reads the depth, so that no change is missed
        return heard

    async def close(self) -> None:
        """Closes the connection."""
        self._closed = True
        client, self._client = self._client, None
        self._ears.clear()
        if client is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(client.close(), CONNECT_LIMIT_S)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def _consumer_info(self) -> ConsumerInfo | None:
        with self._explaining():
            info: ConsumerInfo = await (await self._jetstream()).consumer_info(self._stream, self._consumer)
            return info
        return None

    async def _stored(self) -> int:
        """How many messages of the subject, or at all, are in the stream; 0 if there is no such stream.

        Those that a consumer had been given, before it vanished, are not among them: a stream may keep what is done.
        """
        subject = self._url.parameters.get("subject")
        with self._explaining():
            info = await (await self._jetstream()).stream_info(self._stream, subjects_filter=subject)
            stored = sum((info.state.subjects or {}).values()) if subject else info.state.messages
            if info.state.last_seq < self._delivered:
                self._delivered = 0  # it is another stream of that name
            return min(stored, info.state.last_seq - self._delivered)
        self._delivered = 0
        return 0

    async def _stream_subjects(self) -> tuple[str, ...] | None:
        with self._explaining():
            return tuple((await (await self._jetstream()).stream_info(self._stream)).config.subjects or ())
        return None

    async def _wanted_subjects(self) -> tuple[str, ...]:
        """What to hear of: the subjects that the consumer filters, else the stream's."""
        info = await self._consumer_info()
        if info is not None:
            filters = getattr(info.config, "filter_subjects", None) or [info.config.filter_subject]
            if filters[0]:
                return tuple(filters)
        if subject := self._url.parameters.get("subject"):
            return (subject,)
        return await self._stream_subjects() or ()

    async def _listen(self) -> None:
        """Subscribes again to each subject whose one message has come; the server ends a subscription after one.

        So a wake-up costs one message, however many are published. While the stream is not there, its creation is
        what is waited for.
        """
        client = await self._connected()
        created = f"$JS.EVENT.ADVISORY.STREAM.CREATED.{self._stream}"
        if not self._subjects and created not in self._ears:
            # A subject that begins with a wildcard takes in the replies to our own requests.
            self._subjects = tuple(s for s in await self._wanted_subjects() if not s.startswith(("*", ">")))
        deaf_to = [subject for subject in self._subjects or (created,) if subject not in self._ears]
        try:
            for subject in deaf_to:
                await self._subscribe_once(client, subject)
            if deaf_to:
                await client.flush(timeout=CONNECT_LIMIT_S)
        except (nats.errors.Error, OSError, ValueError) as error:
            raise self._explained(error) from error

    async def _subscribe_once(self, client: Client, subject: str) -> None:
        async def hear(_message: object) -> None:
            self._ears.discard(subject)
            self._change_event.set()

        self._ears.add(subject)  # before the message can come
        try:
            subscription = await client.subscribe(subject, cb=hear)
            try:
                await subscription.unsubscribe(limit=1)
            except BaseException:
                await subscription.unsubscribe()
                raise
        except BaseException:
            self._ears.discard(subject)
            raise

    async def _jetstream(self) -> JetStreamContext:
        options = {"domain": domain} if (domain := self._url.parameters.get("domain")) else {}
        return (await self._connected()).jetstream(timeout=REQUEST_LIMIT_S, **options)

    async def _connected(self) -> Client:
        """The connection, a new one if it was lost: nothing may wait in a buffer while the server is down."""
        async with self._connecting:
            self._check_open()
            if self._client is None or self._client.is_closed:
                self._ears.clear()
                self._subjects = ()
                self._client = await self._connect()
            return self._client

    def _check_open(self) -> None:
        if self._closed:
            raise QueueError(f"{self._url.shown}: this queue was closed.")

    async def _connect(self) -> Client:
        """A connection to the first server that answers."""
        failure: Exception = nats.errors.NoServersError()
        for address in self._servers.addresses:
            try:
                return await self._connect_to(address)
            except QueueError as error:
                failure = error
        raise failure

    async def _connect_to(self, address: str) -> Client:
        reasons: list[Exception] = []

        async def remember(error: Exception) -> None:
            reasons.append(error)

        async def wake() -> None:
            self._change_event.set()

        client = Client()
        try:
            await within(
                client.connect(
                    address,
                    name="nullworker",
                    error_cb=remember,
                    closed_cb=wake,
                    allow_reconnect=False,
                    connect_timeout=CONNECT_LIMIT_S,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    **self._servers.options,
                ),
                CONNECT_LIMIT_S * 2,
            )
        except (nats.errors.Error, OSError, ImportError, ValueError, asyncio.TimeoutError) as error:
            with contextlib.suppress(Exception):
                await within(client.close(), CLOSE_LIMIT_S)
            raise self._explained(reasons[0] if reasons else error) from error
        return client

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        """What is not there is passed over; every other failure becomes a sentence."""
        try:
            yield
        except NotFoundError:
            return
        except (nats.errors.Error, OSError, ValueError) as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> QueueError:
        if isinstance(error, (ServiceUnavailableError, nats.errors.NoRespondersError)):
            domain = " in that domain" if "domain" in self._url.parameters else ""
            return QueueError(f"{self._shown} has no JetStream{domain}, or keeps it from this user: start it with -js.")
        if isinstance(error, asyncio.TimeoutError):
            return QueueError(f"{self._shown} did not answer within {REQUEST_LIMIT_S:g} s; check that it is up.")
        said = str(error).removeprefix("nats: ").strip("' ") or type(error).__name__
        hint = ""
        if "Authorization" in said:
            hint = "; check user and password, token, creds or nkey in the URL"
        elif isinstance(error, (ConnectionError, nats.errors.NoServersError, nats.errors.ConnectionClosedError)):
            hint = "; check that it is up, and the URL's host and port"
        said = f"{self._shown}: {said.splitlines()[0][:200]}{hint}."
        return QueueError(self._url.hidden(said, *self._servers.secrets))


def _missing(what: str, and_so: str) -> QueueWarning:
    return QueueWarning("missing", f"There is no {what} yet, and {and_so}: check the name.")


def _lease_s(info: ConsumerInfo) -> float | None:
    """Seconds until a message that is not acknowledged is redelivered; None if none ever is."""
    if info.config.ack_policy == AckPolicy.NONE:
        return None
    return info.config.backoff[0] if info.config.backoff else info.config.ack_wait


def _warnings(info: ConsumerInfo, lease_s: float | None) -> list[QueueWarning]:
    config = info.config
    warnings = []
    if getattr(info, "paused", None):
        warnings.append(QueueWarning("paused", "The consumer is paused: nothing in the stream is given out."))
    if config.ack_policy == AckPolicy.NONE:
        warnings.append(
            QueueWarning(
                "early-ack",
                "The consumer's ack policy is none, so that what is in flight is unknown and a job whose worker dies "
                "is lost: use an explicit acknowledgement after the job.",
            )
        )
    if config.ack_policy == AckPolicy.ALL:
        warnings.append(
            QueueWarning(
                "ack-all",
                "The consumer's ack policy is all: one worker's acknowledgement takes in the jobs that others began "
                "before; use explicit.",
            )
        )
    if lease_s is not None and lease_s < LONG_JOB_S:
        warnings.append(
            QueueWarning(
                "short-lease",
                f"A job that runs longer than {lease_s:g} s (ack_wait) is given to another consumer as well: send "
                "in-progress beside the job, from another process, or raise ack_wait.",
            )
        )
    if config.inactive_threshold or not config.durable_name:
        warnings.append(
            QueueWarning(
                "vanishes",
                f"The consumer is deleted when none has pulled for {config.inactive_threshold or 5:g} s "
                "(inactive_threshold), as at zero workers, and all that the stream keeps is given out again: make it "
                "durable, without that.",
            )
        )
    if config.max_ack_pending and 0 < config.max_ack_pending < MAX_WORKERS:
        warnings.append(
            QueueWarning(
                "max-ack-pending",
                f"The consumer gives out at most {config.max_ack_pending} message(s) at a time (max_ack_pending): "
                "raise that to your maximum of workers, or more workers than that would idle.",
            )
        )
    if config.deliver_subject:
        warnings.append(
            QueueWarning(
                "prefetch",
                "It is a push consumer, which hands out as many messages as max_ack_pending allows to those connected: "
                "use a pull consumer that fetches one message for each job.",
            )
        )
    if info.num_redelivered:
        warnings.append(
            QueueWarning("redelivered", f"{info.num_redelivered} message(s) in flight were given out more than once.")
        )
    return warnings


_: type[Queue] = NatsQueue
