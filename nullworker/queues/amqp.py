"""A queue of RabbitMQ, or of another broker that speaks AMQP 0-9-1, read over that protocol.

    amqp://user:password@host:5672/vhost?queue=renders          (or amqps; see docs/queues.md)

The virtual host ``/`` is written ``%2F``, or left out. AMQP tells only what is ready: what is in flight stays unknown,
and the dispatcher has to go by the reservations that are held. Where there is a management API, prefer
``rabbitmq+http://``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar

import aio_pika
from aiormq.exceptions import AMQPError, AuthenticationError, ChannelNotFoundEntity, ProbableAuthenticationError

from nullworker.queues._batches import Batch
from nullworker.queues._rabbitmq import (
    CONSUMER_TIMEOUT_S,
    DELAY_QUEUE_SUFFIX,
    delay_queue,
    missing_queue,
    timeout_warning,
)
from nullworker.queues._tls import tls_settings, tls_ways
from nullworker.queues.base import Depth, Queue, QueueError, QueueInfo, QueueUrlError, QueueWarning
from nullworker.queues.connections import Connections, Way
from nullworker.queues.urls import parse_url, place
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from aio_pika.abc import AbstractChannel, AbstractConnection
    from typing_extensions import Self

    from nullworker.queues.urls import QueueUrl

# What fails is raised as well; without a logging set-up, Python would print these libraries' records, too.
for _library in ("aiormq", "aio_pika"):
    logging.getLogger(_library).addHandler(logging.NullHandler())

AMQP_LIMIT_S = 5.0
BROKEN = (AMQPError, OSError, RuntimeError, ValueError, asyncio.TimeoutError)

CONNECTIONS = Connections(
    "AMQP",
    several=True,
    ways=(
        Way(
            "plain",
            "one server",
            "`amqp://user:password@host:5672/vhost?queue=renders`",
            "The virtual host `/` is written `%2F`, or left out.",
            transports=("",),
        ),
        *tls_ways(
            (),
            scheme="amqps://host/vhost?queue=renders&",
            written="`amqps://host:5671/vhost?queue=renders`",
            names=("cafile", "certfile", "keyfile"),
            verify=("no_verify_ssl", "verify"),
            also_authority=("cacertfile",),
        ),
        Way(
            "external",
            "logging in by the client certificate",
            "`amqps://host/vhost?queue=renders&auth_mechanism=external&tls_cert=…&tls_key=…`",
            "Or aio-pika's `auth=external`. Needs RabbitMQ's plugin rabbitmq_auth_mechanism_ssl.",
            parameters=("auth_mechanism",),
            also={"auth": "auth_mechanism"},
        ),
        Way("ipv6", "IPv6 address", "`amqp://[2001:db8::1]:5672/vhost?queue=renders`"),
        Way(
            "failover",
            "several servers",
            "`amqp://user:password@host1,host2/vhost?queue=renders`; Celery's `amqp://host1/vhost;amqp://host2/vhost`",
            "The first that answers; asked again when the connection is lost.",
        ),
        Way(
            "client-settings",
            "settings of the library's own client",
            "`heartbeat=30`, …",
            "They are allowed, and change nothing here:",
            unused=(
                *("heartbeat", "connection_timeout", "connection_attempts", "retry_delay", "socket_timeout", "timeout"),
                *("blocked_connection_timeout", "channel_max", "frame_max", "channelMax", "frameMax", "locale", "name"),
            ),
        ),
    ),
)


class AmqpQueue:
    """Reads what is ready in a queue by AMQP's passive declaration. Opened by ``await AmqpQueue.open(url)``."""

    CONNECTIONS: ClassVar[Connections] = CONNECTIONS

    def __init__(self, url: QueueUrl) -> None:
        self._url = url
        self._name = url.text("queue")
        self._vhost = url.path[1:] or "/"
        self._hosts = [(host.name or "localhost", host.port or self._default_port) for host in url.hosts]
        self._shown = f"RabbitMQ at {', '.join(place(*host) for host in self._hosts)}"
        self._tls = tls_settings(url, is_tls=url.scheme == "amqps")
        self._context = self._tls.context(url) if self._tls else None
        self._mechanism = url.text("auth_mechanism", "plain").lower()
        if self._mechanism not in {"plain", "external"}:
            raise QueueUrlError(f"{url.shown}: auth_mechanism should be plain or external, not {self._mechanism!r}.")
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._readings = Batch(self._ask)
        self._ignores_delayed = url.flag("ignore_delayed")
        self._has_delay_queue = not self._ignores_delayed
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connects, and reads the queue once.

        Raises:
            QueueError: the URL is wrong, or RabbitMQ cannot be reached or refuses.
        """
        queue = cls(parse_url(url, parameters=("queue", "ignore_delayed"), connections=cls.CONNECTIONS))
        try:
            await queue.depth()
        except BaseException:
            await queue.close()
            raise
        return queue

    async def depth(self) -> Depth:
        """Declares the queue passively, which makes nothing and tells how many messages are ready.

        Raises:
            QueueError: RabbitMQ cannot be reached or refuses.
        """
        self._check_open()
        now = time.time()  # noqa: TID251 - a wall-clock stamp, for the dispatcher to compare with its own
        ready = await self._readings.read(self._name) or 0
        return Depth(ready + await self._beside(), None, now, exact=False)

    async def _beside(self) -> int:
        """How many messages are in dramatiq's delay queue; it is asked for again by each `info` if it is not there.

        To ask for a queue that does not exist costs a channel.
        """
        if not self._has_delay_queue:
            return 0
        count = await self._readings.read(self._name + DELAY_QUEUE_SUFFIX)
        self._has_delay_queue = count is not None
        return count or 0

    async def info(self) -> QueueInfo:
        """Warns that AMQP tells neither what is in flight nor of the settings that hurt.

        Raises:
            QueueError: as for `depth`.
        """
        self._check_open()
        warnings = [
            *(self._tls.warnings() if self._tls else ()),
            QueueWarning(
                "in-flight-unknown",
                "AMQP tells only what is ready, neither what is in flight nor prefetch and acknowledgement of the "
                "consumers: give the management API, rabbitmq+http://user:password@host:15672/vhost/queue.",
            ),
            timeout_warning(CONSUMER_TIMEOUT_S),
        ]
        if await self._readings.read(self._name) is None:
            warnings.append(missing_queue(self._name))
        self._has_delay_queue = not self._ignores_delayed
        if due := await self._beside():
            warnings.append(delay_queue(self._name, due))
        transport = self._connection.transport if self._connection else None
        properties: Any = getattr(getattr(transport, "connection", None), "server_properties", None) or {}
        return QueueInfo(
            kind="amqp",
            name=f"{self._vhost.rstrip('/')}/{self._name}",
            broker=f"{self._shown} (server {properties.get('version', 'unknown')})",
            lease_s=CONSUMER_TIMEOUT_S,
            warnings=tuple(warnings),
        )

    async def changed(self, timeout_s: float) -> bool:
        """Sleeps: RabbitMQ announces a message only to the consumers that take it."""
        self._check_open()
        await asyncio.sleep(timeout_s)
        return False

    async def close(self) -> None:
        """Closes the connection."""
        self._closed = True
        await self._readings.close()
        await self._hang_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _default_port(self) -> int:
        return 5671 if self._url.scheme == "amqps" else 5672

    def _check_open(self) -> None:
        if self._closed:
            raise QueueError(f"{self._url.shown}: this queue was closed.")

    async def _ask(self, names: list[str]) -> Mapping[str, int]:
        """How many messages are ready in each; nothing of a queue that does not exist."""
        counts = {name: await self._count(name) for name in names}
        return {name: count for name, count in counts.items() if count is not None}

    async def _count(self, name: str) -> int | None:
        while True:
            is_fresh = self._connection is None
            try:
                channel = await within(self._connected(), AMQP_LIMIT_S * len(self._hosts))
                queue = await within(channel.declare_queue(name, passive=True), AMQP_LIMIT_S)
                return queue.declaration_result.message_count or 0
            except ChannelNotFoundEntity:
                self._channel = None  # which the server has closed, as AMQP has it
                return None
            except BROKEN as error:
                await self._hang_up()
                if is_fresh:
                    said = (str(error).splitlines() or [""])[0].rstrip(".")[:200] or type(error).__name__
                    refused = isinstance(error, (AuthenticationError, ProbableAuthenticationError))
                    check = (
                        "user and password" if refused else "that it is up, and the URL's host, port and virtual host"
                    )
                    raise QueueError(self._url.hidden(f"{self._shown}: {said}; check {check}.")) from error
                # The connection was lost while idle (the server was restarted): once more with a new one.

    async def _connected(self) -> AbstractChannel:
        if self._connection is None or self._connection.is_closed:
            self._channel = None
            self._connection = await self._connect()
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._connection.channel()
        return self._channel

    async def _connect(self) -> AbstractConnection:
        """A connection to the first server that answers."""
        failure: Exception = OSError("there is no server")
        for host, port in self._hosts:
            try:
                return await aio_pika.connect(
                    host=host,
                    port=port,
                    login=self._url.username or "guest",
                    password="guest" if self._url.password is None else self._url.password,
                    virtualhost=self._vhost,
                    ssl=self._context is not None,
                    ssl_context=self._context,
                    timeout=AMQP_LIMIT_S,
                    client_properties={"connection_name": "nullworker"},
                    auth=self._mechanism,
                )
            except BROKEN as error:
                failure = error
        raise failure

    async def _hang_up(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await within(connection.close(), AMQP_LIMIT_S)


_: type[Queue] = AmqpQueue
