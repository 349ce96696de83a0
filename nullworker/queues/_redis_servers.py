"""Which Redis server to read from: the URL's own, the first of several that answers, or the one that Sentinel or the
cluster names. Asked again whenever a connection is lost, for another may have taken over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import exceptions
from redis.crc import key_slot

from nullworker.queues._tls import TlsSettings, tls_settings, tls_ways
from nullworker.queues.base import QueueUrlError
from nullworker.queues.connections import Connections, Way
from nullworker.queues.urls import Host, QueueUrl, place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nullworker.queues.base import QueueWarning

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
UNIX = ("unix", "socket", "redis+socket")
SENTINEL = ("sentinel", "sentinel+tls")
CLUSTER = ("cluster", "cluster+tls")
TLS = ("tls", "rediss", "valkeys", "redis+tls")

CONNECTIONS = Connections(
    "Redis",
    several=True,
    ways=(
        Way(
            "plain",
            "one server, Redis or Valkey",
            "`rq://user:password@host:6379/0?…`; your library's URL after the adapter's name and a plus: "
            "`rq+redis://…`, `rq+valkey://…`",
            "The database is the path, or `db=`. `username=` and `password=` may be parameters.",
            transports=("", "redis", "valkey"),
            parameters=("db", "username", "password"),
            also={"virtual_host": "db"},
        ),
        *tls_ways(
            TLS,
            scheme="rq+rediss://host:6380/0?",
            written="`rq+tls://host:6380/0`, `rq+rediss://…`, `rq+valkeys://…`",
            names=("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"),
            verify=("ssl_cert_reqs", "ssl_check_hostname"),
        ),
        Way("ipv6", "IPv6 address", "`rq://[2001:db8::1]:6379/0`"),
        Way(
            "unix",
            "Unix socket",
            "`rq+unix:///run/redis.sock?db=0`, `celery+redis+socket:///run/redis.sock?virtual_host=0`",
            transports=UNIX,
        ),
        Way(
            "failover",
            "several servers",
            "`rq://host1:6379,host2:6379/0`; Celery's `celery+redis://host1/0;redis://host2/0`",
            "The first that answers is read; when it is lost, they are asked again.",
        ),
        Way(
            "sentinel",
            "Sentinel",
            "`rq+sentinel://user:password@host1:26379,host2:26379/0?master_name=mymaster`, `rq+sentinel+tls://…`",
            "User and password are Redis's; those of Sentinel are `sentinel_username=` and `sentinel_password=`. When "
            "the master is lost, it is asked for again.",
            transports=SENTINEL,
            parameters=("master_name", "sentinel_username", "sentinel_password"),
            also={"service_name": "master_name"},
        ),
        Way(
            "cluster",
            "Cluster",
            "`bullmq+cluster://host1:6379,host2:6379?queue=jobs&prefix={bull}`, `bullmq+cluster+tls://…`",
            "Redis lists, Redis streams and BullMQ; the other libraries do not work on a cluster. All keys of a queue "
            "must be in one slot, hence the braces.",
            transports=CLUSTER,
        ),
        Way(
            "client-settings",
            "settings of the library's own client",
            "`socket_timeout=5`, …",
            "They are allowed, and change nothing here:",
            unused=(
                *("socket_timeout", "socket_connect_timeout", "socket_read_size", "socket_keepalive", "timeout"),
                *("retry_on_timeout", "max_connections", "health_check_interval", "protocol", "client_name"),
                *("decode_responses", "encoding", "family", "keepAlive", "connectTimeout"),
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that a URL names."""

    url: QueueUrl
    tls: TlsSettings | None
    #: A key of the queue, for a cluster to say where it is.
    key: str

    @classmethod
    def of(cls, url: QueueUrl, *, key: str, has_clusters: bool) -> Servers:
        """Checks what the URL says.

        Args:
            url: taken apart.
            key: one of the queue's.
            has_clusters: whether the queue's library works on a cluster.

        Raises:
            QueueUrlError: it names no server, or a way that does not fit.
        """
        if url.transport in UNIX:
            if url.host or len(url.path) < 2:
                raise QueueUrlError(f"{url.shown}: write {url.scheme}:///path/of/the.socket.")
        elif not all(host.name for host in url.hosts):
            raise QueueUrlError(f"{url.shown}: the URL names no host ({url.scheme}://host:port/db?…).")
        if url.transport in SENTINEL:
            url.text("master_name")
        elif any(name in url.parameters for name in ("master_name", "sentinel_username", "sentinel_password")):
            raise QueueUrlError(f"{url.shown}: for Sentinel, the scheme is {url.scheme.partition('+')[0]}+sentinel.")
        if url.transport in CLUSTER and not has_clusters:
            raise QueueUrlError(f"{url.shown}: this queue's library does not work on Redis Cluster.")
        settings = tls_settings(url, is_tls=url.transport in TLS or url.transport.endswith("+tls"))
        if settings is not None:
            settings.context(url)  # a file that cannot be used is known at once
        return cls(url, settings, key)

    @property
    def database(self) -> int:
        """The number of the database.

        Raises:
            QueueUrlError: it is no number, or there is none but 0.
        """
        url = self.url
        path = "" if url.transport in UNIX else url.path.strip("/")
        database = url.parameters.get("db") or path or "0"
        if not database.isdecimal():
            where = "db" if "db" in url.parameters else "path"
            raise QueueUrlError(f"{url.shown}: the {where} should be the number of a Redis database, not {database!r}.")
        if url.transport in CLUSTER and int(database):
            raise QueueUrlError(f"{url.shown}: a Redis Cluster has no database but 0.")
        return int(database)

    @property
    def shown(self) -> str:
        """Where they are, for messages."""
        if self.url.transport in UNIX:
            return f"Redis at {self.url.path}"
        default = SENTINEL_PORT if self.url.transport in SENTINEL else DEFAULT_PORT
        listed = ", ".join(place(host.name, host.port or default) for host in self.url.hosts)
        if self.url.transport in SENTINEL:
            return f"Redis {self.url.text('master_name')} of Sentinel at {listed}"
        return f"Redis{' Cluster' if self.url.transport in CLUSTER else ''} at {listed}"

    def warnings(self) -> list[QueueWarning]:
        """What the URL leaves unverified."""
        return [] if self.tls is None else self.tls.warnings()

    @property
    def may_move(self) -> bool:
        """Whether another server may take over."""
        return len(self.url.hosts) > 1 or self.url.transport in (*SENTINEL, *CLUSTER)

    @property
    def has_master(self) -> bool:
        """Whether one of them is a master, which alone is to be read from."""
        return self.url.transport in SENTINEL

    def options(self, host: Host) -> dict[str, Any]:
        """redis-py's arguments for a connection to one of them."""
        if self.url.transport in UNIX:
            return {"unix_socket_path": self.url.path}
        options: dict[str, Any] = {"host": host.name, "port": host.port}
        if self.tls is not None:
            options |= {
                "ssl": True,
                "ssl_cert_reqs": "none" if self.tls.verify == "none" else "required",
                "ssl_check_hostname": self.tls.verify == "full",
                "ssl_ca_certs": self.tls.authority,
                "ssl_certfile": self.tls.certificate,
                "ssl_keyfile": self.tls.key,
            }
        return options

    async def current(self, ask: Callable[[Host, dict[str, Any], tuple[Any, ...]], Awaitable[Any]]) -> Host:
        """The server to read from.

        Args:
            ask: sends a command to a server, over a connection with redis-py's arguments.

        Raises:
            redis.exceptions.RedisError: none of those that could tell answers, or knows.
        """
        if not self.may_move:
            return Host(self.url.host, self.url.port or DEFAULT_PORT)
        failure: Exception = exceptions.ConnectionError("none of them knows")
        for host in self.url.hosts:
            try:
                if found := await self._found_by(host, ask):
                    return found
            except (exceptions.RedisError, OSError) as error:
                failure = error
        raise failure

    async def _found_by(
        self, host: Host, ask: Callable[[Host, dict[str, Any], tuple[Any, ...]], Awaitable[Any]]
    ) -> Host | None:
        """What one of the URL's servers says."""
        parameters = self.url.parameters
        if self.url.transport in SENTINEL:
            name = parameters["master_name"]
            access = {"username": parameters.get("sentinel_username"), "password": parameters.get("sentinel_password")}
            sentinel = Host(host.name, host.port or SENTINEL_PORT)
            answer = await ask(sentinel, access, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name))
            if not answer:
                raise exceptions.ConnectionError(f"Sentinel knows no master {name}")
            return Host(_text(answer[0]), int(answer[1]))
        server = Host(host.name, host.port or DEFAULT_PORT)
        if self.url.transport not in CLUSTER:
            await ask(server, {}, ("PING",))
            return server
        slot = key_slot(self.key.encode())
        for first, last, (name, port, *_), *_replicas in await ask(server, {}, ("CLUSTER", "SLOTS")):
            if first <= slot <= last:
                return Host(_text(name) or host.name, int(port))  # without a name, it is the one that was asked
        raise exceptions.ConnectionError("no server of the cluster has the queue's slot")


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer or "")
