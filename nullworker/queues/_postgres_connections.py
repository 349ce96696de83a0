"""How a URL says where PostgreSQL is: libpq's own parameters, several servers, key=value texts, poolers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict

from nullworker.queues._tls import unverified
from nullworker.queues.base import QueueUrlError
from nullworker.queues.connections import Connections, Way

if TYPE_CHECKING:
    from nullworker.queues.base import QueueWarning
    from nullworker.queues.urls import QueueUrl

DEFAULT_PORT = "5432"
CONNECT_LIMIT_S = 5
DEFAULTS = {"connect_timeout": CONNECT_LIMIT_S, "keepalives_idle": 30, "application_name": "nullworker"}

CONNECTIONS = Connections(
    "PostgreSQL",
    several=True,
    ways=(
        Way(
            "plain",
            "one server",
            "`pgboss://user:password@host:5432/database?…`; your library's URL after the adapter's name and a plus: "
            "`pgboss+postgresql://…`",
            "libpq's other parameters may be there as well, and mean what its documentation says.",
            transports=("", "postgres", "postgresql"),
            parameters=("host", "port", "dbname", "user", "password", "application_name", "connect_timeout", "options"),
            also={
                name: name
                for name in (
                    *("hostaddr", "passfile", "service", "client_encoding", "fallback_application_name", "keepalives"),
                    *("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
                    *("requirepeer", "require_auth", "gssencmode", "krbsrvname", "gsslib", "gssdelegation"),
                )
            },
        ),
        Way(
            "dsn",
            "key=value text",
            "`pgboss://?queue=renders&dsn=host=db.internal dbname=app user=me`",
            "In it, `%`, `&`, `+` and `#` are percent-encoded.",
            parameters=("dsn",),
        ),
        Way("ipv6", "IPv6 address", "`pgboss://user@[2001:db8::1]:5432/database`"),
        Way("unix", "Unix socket", "`pgboss://%2Fvar%2Frun%2Fpostgresql/database`, or `host=/var/run/postgresql`"),
        Way(
            "tls",
            "TLS, verified",
            "`sslmode=verify-full&sslrootcert=/path/ca.pem`; `sslrootcert=system` for the system's authorities",
            "libpq verifies nothing unless it is told so.",
            parameters=("sslmode", "sslrootcert"),
            also={
                name: name
                for name in (
                    *("sslcrl", "sslcrldir", "sslsni", "sslnegotiation", "sslcertmode", "channel_binding"),
                    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
                )
            },
        ),
        Way(
            "client-certificate",
            "TLS, client certificate",
            "`sslmode=verify-full&sslcert=/path/cert.pem&sslkey=/path/key.pem`",
            "The key's file must be yours alone (mode 0600). `sslpassword=` if it is encrypted.",
            parameters=("sslcert", "sslkey"),
            also={"sslpassword": "sslpassword"},
        ),
        Way(
            "unverified",
            "TLS, not verified",
            "`sslmode=require`, node-postgres's `sslmode=no-verify`; `sslmode=verify-ca` leaves out the name alone",
            "Warned of as `unverified-tls`. `ssl=…` is refused: it means another thing to each library.",
            parameters=("ssl",),
        ),
        Way(
            "failover",
            "several servers",
            "`pgboss://user@host1:5432,host2:5432/database?target_session_attrs=read-write`",
            "In their order, or with `load_balance_hosts=random`; asked again when the connection is lost.",
            parameters=("target_session_attrs",),
            also={"load_balance_hosts": "load_balance_hosts"},
        ),
        Way(
            "pooler",
            "PgBouncer and other poolers, in any mode",
            "`pgboss://user@pooler:6432/database`",
            "No prepared statements are used. `LISTEN` would be lost, so that the queue is polled, and `pooler` warned "
            "of: to be told at once, give the server's own address. PgBouncer refuses `options`.",
        ),
        Way(
            "client-settings",
            "settings of libraries' own clients and pools",
            "`pgbouncer=true`, …",
            "They are allowed, and change nothing here:",
            unused=(
                *("pgbouncer", "encoding", "uselibpqcompat", "statement_timeout", "lock_timeout", "query_timeout"),
                *("idle_in_transaction_session_timeout", "connection_limit", "pool_timeout", "max", "min_size"),
                *("max_size", "prepareThreshold", "prepare_threshold", "statement_cache_size"),
            ),
        ),
    ),
)
#: How far each of libpq's modes goes; the others verify both certificate and name, or have no TLS.
_NOT_CHECKED = {
    **dict.fromkeys(("allow", "prefer", "require"), "the server's certificate"),
    "verify-ca": "the server's name",
}


def conninfo_settings(url: QueueUrl) -> dict[str, Any]:
    """What libpq is told, by its own names.

    Raises:
        QueueUrlError: `ssl` is there, which has no one meaning, or the limit on connecting is no number.
        psycopg.ProgrammingError: the key=value text cannot be read.
    """
    parameters = dict(url.parameters)
    if "ssl" in parameters:
        raise QueueUrlError(
            f"{url.shown.partition('?')[0]}: write sslmode=verify-full with sslrootcert=system, or =FILE, in place of "
            "ssl, for libraries do not agree on what it verifies."
        )
    if parameters.get("sslmode") == "no-verify":
        parameters["sslmode"] = "require"
    text = conninfo_to_dict(parameters.pop("dsn")) if "dsn" in parameters else {}
    ports = [str(host.port or "") for host in url.hosts]
    names = CONNECTIONS.parameters | set(CONNECTIONS.also)
    settings: dict[str, Any] = {
        **DEFAULTS,
        "host": ",".join(host.name for host in url.hosts) or None,
        "port": ",".join(port or DEFAULT_PORT for port in ports) if any(ports) else None,
        "user": url.username,
        "password": url.password,
        "dbname": url.path.strip("/") or None,
        **{name: value for name, value in text.items() if value not in {None, ""}},
        **{name: value for name, value in parameters.items() if name in names},
    }
    if not re.fullmatch("[1-9][0-9]{0,3}", str(settings["connect_timeout"])):
        raise QueueUrlError(f"{url.shown.partition('?')[0]}: connect_timeout should be a whole number of seconds.")
    return {name: value for name, value in settings.items() if value is not None}


def shown_place(settings: dict[str, Any]) -> str:
    """Servers and database, for messages."""
    hosts = str(settings.get("host") or settings.get("hostaddr") or "localhost").split(",")
    ports = str(settings.get("port") or DEFAULT_PORT).split(",")
    ports *= len(hosts) if len(ports) == 1 else 1
    places = [
        host if host.startswith("/") else f"{f'[{host}]' if ':' in host else host}:{port}"
        for host, port in zip(hosts, ports, strict=False)
    ]
    return f"PostgreSQL at {', '.join(places)}, database {settings.get('dbname') or '(default)'}"


def tls_warnings(url: QueueUrl, settings: dict[str, Any]) -> list[QueueWarning]:
    """What the URL leaves unverified; libpq's default, TLS if the server has it, is not asked for by the URL.

    Args:
        url: of the queue, taken apart.
        settings: what is made of it.
    """
    mode = str(settings.get("sslmode", ""))
    if mode == "require" and settings.get("sslrootcert"):
        mode = "verify-ca"  # as libpq has it
    what = _NOT_CHECKED.get(mode)
    if what is None:
        return []
    said = url.parameters.get("sslmode", mode)
    return [unverified(f"With sslmode={said}, {what} is not checked", "use verify-full, and sslrootcert=")]
