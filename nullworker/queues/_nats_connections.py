"""How a URL says where NATS is: servers, TLS, WebSockets, and the ways to log in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nullworker.queues._tls import TlsSettings, tls_settings, tls_ways
from nullworker.queues.base import QueueUrlError
from nullworker.queues.connections import Connections, Way
from nullworker.queues.urls import place

if TYPE_CHECKING:
    from nullworker.queues.base import QueueWarning
    from nullworker.queues.urls import QueueUrl

DEFAULT_PORT = 4222
WEBSOCKETS = ("ws", "wss")
TLS = ("tls", "wss")

CONNECTIONS = Connections(
    "NATS",
    several=True,
    ways=(
        Way(
            "plain",
            "one server",
            "`nats://user:password@host:4222?…`, `nats://token@host:4222?…`",
            "Or as parameters: `user=`, `password=`, `token=`.",
            transports=("", "nats"),
            parameters=("user", "password", "token"),
        ),
        *tls_ways(("tls",), scheme="nats+tls://host?", written="`nats+tls://host:4222?…`"),
        Way(
            "creds",
            "credentials file",
            "`creds=/path/user.creds`",
            "Needs `pip install nkeys`.",
            parameters=("creds",),
            also={"user_credentials": "creds"},
        ),
        Way(
            "nkey",
            "NKey",
            "`nkey=/path/user.nk`",
            "The file holds the seed. Needs `pip install nkeys`.",
            parameters=("nkey",),
            also={"nkeys_seed": "nkey"},
        ),
        Way(
            "inbox-prefix",
            "user with few rights",
            "`inbox_prefix=_INBOX_me`",
            "Where the user may not subscribe to `_INBOX.>`. It publishes to `$JS.API.>` alone.",
            parameters=("inbox_prefix",),
        ),
        Way("ipv6", "IPv6 address", "`nats://[2001:db8::1]:4222?…`"),
        Way(
            "websocket",
            "WebSocket",
            "`nats+ws://host:8080/path?…`, `nats+wss://host:443/path?…`",
            "With the parameters for TLS as above.",
            transports=WEBSOCKETS,
        ),
        Way(
            "failover",
            "several servers of one cluster",
            "`nats://host1:4222,host2:4222?…`, `nats://host1,nats://host2?…`",
            "The first that answers; asked again when the connection is lost.",
        ),
        Way(
            "client-settings",
            "settings of the library's own client",
            "`connect_timeout=2`, …",
            "They are allowed, and change nothing here:",
            unused=(
                *("connect_timeout", "allow_reconnect", "max_reconnect_attempts", "reconnect_time_wait", "name"),
                *("ping_interval", "max_outstanding_pings", "dont_randomize", "no_echo", "verbose", "pedantic"),
            ),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class NatsServers:
    """The servers that a URL names, and what nats-py is told of them."""

    addresses: tuple[str, ...]
    #: Where they are, for messages.
    shown: str
    options: dict[str, Any] = field(repr=False)
    secrets: tuple[str | None, ...] = field(repr=False)
    tls: TlsSettings | None

    @classmethod
    def of(cls, url: QueueUrl) -> NatsServers:
        """Checks what the URL says.

        Raises:
            QueueUrlError: there are two ways to log in, or what it says of TLS cannot be used.
        """
        given = url.parameters
        user, password, token = given.get("user"), given.get("password"), given.get("token")
        if url.password is not None:
            user, password = url.username, url.password
        elif url.username:
            token = url.username
        logins = [name for name, value in (("user", user), ("token", token)) if value]
        logins += [name for name in ("creds", "nkey") if name in given]
        if len(logins) > 1:
            raise QueueUrlError(f"{url.shown}: write one of {' and '.join(logins)}, for NATS takes one way to log in.")
        tls = tls_settings(url, is_tls=url.transport in TLS)
        options = {
            "user": user,
            "password": password,
            "token": token,
            "user_credentials": given.get("creds"),
            "nkeys_seed": given.get("nkey"),
            "inbox_prefix": given.get("inbox_prefix"),
            "tls": tls.context(url) if tls else None,
        }
        is_websocket = url.transport in WEBSOCKETS
        scheme, path = (url.transport, url.raw_path) if is_websocket else ("nats", "")
        default = None if is_websocket else DEFAULT_PORT
        places = [place(host.name or "localhost", host.port or default) for host in url.hosts]
        return cls(
            addresses=tuple(f"{scheme}://{where}{path}" for where in places),
            shown=f"NATS at {', '.join(places)}",
            options={name: value for name, value in options.items() if value is not None},
            secrets=(password, token),
            tls=tls,
        )

    def warnings(self) -> list[QueueWarning]:
        """What the URL leaves unverified."""
        return self.tls.warnings() if self.tls else []
