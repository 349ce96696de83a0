"""PostgreSQL is reached in each of the ways that docs/queues.md lists, with real servers and a real PgBouncer.

What all adapters on PostgreSQL share is shown by the one for graphile-worker, without its tables: an empty queue.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest

from nullworker.queues._postgres_connections import CONNECTIONS
from nullworker.queues._postgres_database import Database
from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.queues.urls import parse_url
from tests.integration.queues.brokers import program, running
from tests.integration.queues.postgres import PASSWORD, SERVER_USER, USER, Postgres, place, postgres_server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.queues.base import QueueInfo
    from tests.integration.queues.certificates import Certificates

LOGIN = f"{USER}:{PASSWORD}@"


async def info(url: str) -> QueueInfo:
    async with await open_queue(url) as queue:
        assert (await queue.depth()).waiting == 0
        return await queue.info()


async def codes(url: str) -> set[str]:
    return {warning.code for warning in (await info(url)).warnings} - {"missing"}


async def refusal(url: str) -> str:
    with pytest.raises(QueueError) as caught:
        await open_queue(url)
    assert PASSWORD not in str(caught.value)
    assert quote(PASSWORD, safe="") not in str(caught.value)
    assert len(str(caught.value)) <= 400
    return str(caught.value)


@pytest.mark.connection("PostgreSQL plain")
@pytest.mark.connection("PostgreSQL client-settings")
async def test_the_librarys_url_follows_the_adapters_name(postgres: Postgres) -> None:
    name = postgres.create_database()
    host = f"127.0.0.1:{postgres.port}"
    for url in (
        f"graphile-worker+postgresql://{LOGIN}{host}/{name}?application_name=me",
        f"pgboss+postgres://{LOGIN}{host}/{name}?queue=renders&pgbouncer=true&max=10",
        f"graphile-worker://{host}?user={USER}&password={PASSWORD}&dbname={name}&keepalives=0",
    ):
        assert await codes(url) == set()
    said = await refusal(f"graphile-worker://{LOGIN}{host}/{name}?sslmod=require")
    assert "unknown parameter 'sslmod' (known: application_name, connect_timeout, " in said
    assert "connect_timeout should be a whole number" in await refusal(
        f"graphile-worker://{LOGIN}{host}/{name}?connect_timeout=soon"
    )
    assert "there is no such way" in await refusal(f"graphile-worker+mysql://{LOGIN}{host}/{name}")


@pytest.mark.connection("PostgreSQL dsn")
async def test_a_text_of_keys_and_values(postgres: Postgres) -> None:
    """With a password of every character that a URL could trip over."""
    name, secret = postgres.create_database(), "s3cret '\\:@/?#&%+ "
    user = f"odd_{name}"
    postgres.execute(name, f"CREATE USER {user} PASSWORD '{secret.replace(chr(39), chr(39) * 2)}'")
    in_dsn = secret.replace("\\", "\\\\").replace("'", "\\'")
    text = f"host=127.0.0.1 port={postgres.port} dbname={name} user={user} password='{in_dsn}'"
    assert await codes(f"graphile-worker://?queue=renders&dsn={quote(text, safe='= ')}") == set()
    assert await codes(f"graphile-worker://{user}:{quote(secret, safe='')}@127.0.0.1:{postgres.port}/{name}") == set()
    wrong = await refusal(f"graphile-worker://?dsn={quote(text.replace('s3cret', 's3cret-not'), safe='= ')}")
    assert "check user and password" in wrong
    assert "s3cret" not in wrong
    assert "s3cret" not in await refusal("graphile-worker://?dsn=host=localhost passwort=s3cret")


async def test_secrets_in_libpqs_own_words_are_hidden() -> None:
    url = parse_url("pgboss://me:s3cret%2F@host/db?sslpassword=0ther", parameters=(), connections=CONNECTIONS)
    database = Database.share(url)
    said = database._explained(psycopg.OperationalError("cannot use s3cret/ or s3cret%2F with 0ther"))
    await database.leave()
    assert str(said).startswith("PostgreSQL at host:5432, database db: cannot use *** or *** with ***; ")


@pytest.fixture(scope="module")
def with_tls(certificates: Certificates) -> Iterator[Postgres]:
    """A server with TLS on ``localhost``; its database ``certified`` is for clients with a certificate."""
    files = {"server.crt": certificates.server, "server.key": certificates.server_key, "ca.crt": certificates.authority}
    with postgres_server(
        *("ssl=on", "ssl_ca_file=ca.crt", "listen_addresses=127.0.0.1,::1"),
        files=files,
        access=("hostssl certified all all scram-sha-256 clientcert=verify-ca",),
    ) as server:
        server.execute("postgres", "CREATE DATABASE certified")
        yield server


@pytest.mark.connection("PostgreSQL ipv6")
@pytest.mark.connection("PostgreSQL unix")
async def test_an_ipv6_address_and_a_unix_socket(with_tls: Postgres) -> None:
    assert await codes(f"graphile-worker://{LOGIN}[::1]:{with_tls.port}/postgres") == set()
    socket = quote(str(with_tls.directory), safe="")
    at_socket = await info(f"graphile-worker://{LOGIN}{socket}:{with_tls.port}/postgres")
    assert f"PostgreSQL at {with_tls.directory}, database postgres" in at_socket.broker
    assert await codes(f"graphile-worker://{LOGIN}:{with_tls.port}/postgres?host={with_tls.directory}") == set()


@pytest.mark.connection("PostgreSQL tls")
@pytest.mark.connection("PostgreSQL unverified")
async def test_tls_is_verified_if_the_url_says_so_and_warned_of_if_not(
    with_tls: Postgres, certificates: Certificates
) -> None:
    verified = f"sslmode=verify-full&sslrootcert={certificates.authority}"
    by_name = f"graphile-worker://{LOGIN}localhost:{with_tls.port}/postgres?"
    by_other = f"graphile-worker://{LOGIN}127.0.0.1:{with_tls.port}/postgres?"
    assert await codes(by_name + verified) == set()
    assert await codes(by_name + verified + "&channel_binding=require") == set()
    assert "does not match" in await refusal(by_other + verified)
    assert "certificate" in await refusal(by_name + f"sslmode=verify-full&sslrootcert={certificates.stranger}")
    for unverified in (
        *("sslmode=require", "sslmode=no-verify", f"sslmode=require&sslrootcert={certificates.authority}"),
        f"sslmode=verify-ca&sslrootcert={certificates.authority}",
    ):
        assert await codes(by_other + unverified) == {"unverified-tls"}
    told = await info(f"{by_other}sslmode=require&sslrootcert={certificates.authority}")
    assert "With sslmode=require, the server's name is not checked" in told.warnings[0].message
    told = await info(f"{by_other}sslmode=require")
    assert "With sslmode=require, the server's certificate is not checked" in told.warnings[0].message
    assert "write sslmode=verify-full with sslrootcert=system" in await refusal(by_name + "ssl=true")


@pytest.mark.connection("PostgreSQL client-certificate")
async def test_a_client_certificate_is_shown(with_tls: Postgres, certificates: Certificates) -> None:
    url = f"graphile-worker://{LOGIN}localhost:{with_tls.port}/certified?sslmode=verify-full"
    url += f"&sslrootcert={certificates.authority}"
    assert await codes(f"{url}&sslcert={certificates.client}&sslkey={certificates.client_key}") == set()
    assert "requires a valid client certificate" in await refusal(url)


@pytest.mark.connection("PostgreSQL failover")
async def test_of_several_servers_the_one_that_can_be_written_to(postgres: Postgres, with_tls: Postgres) -> None:
    """The other stands for a standby: what is started there is read only."""
    name = postgres.create_database()
    postgres.execute(name, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with_tls.execute("postgres", f"CREATE DATABASE {name}")
    hosts = f"{LOGIN}127.0.0.1:{free_port()},127.0.0.1:{postgres.port},127.0.0.1:{with_tls.port}"
    for attributes, port in (("read-write", with_tls.port), ("any", postgres.port), ("read-only", postgres.port)):
        url = f"graphile-worker://{hosts}/{name}?target_session_attrs={attributes}"
        async with await open_queue(url) as queue:
            rows = await queue._database.fetch("SELECT inet_server_port() AS port")  # type: ignore[attr-defined]
            assert rows[0]["port"] == port
            assert "127.0.0.1:" in (await queue.info()).broker
    assert "check that it is up" in await refusal(
        f"graphile-worker://{LOGIN}127.0.0.1:{free_port()},127.0.0.1:{free_port()}/{name}"
    )


@pytest.fixture
def pooled(postgres: Postgres) -> Iterator[tuple[Postgres, int]]:
    """A PgBouncer that gives each transaction another session: the server behind it, and its port."""
    port = free_port()
    pooler = program("pgbouncer")
    with place() as directory:
        (directory / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        (directory / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = scram-sha-256\nauth_file = users\npool_mode = transaction\n"
        )
        with running([pooler, "pgbouncer.ini"], port=port, directory=directory, as_user=SERVER_USER):
            yield postgres, port


@pytest.mark.connection("PostgreSQL pooler")
async def test_behind_pgbouncer_it_is_read_and_polled(pooled: tuple[Postgres, int]) -> None:
    postgres, port = pooled
    name = postgres.create_database()
    url = f"graphile-worker://{LOGIN}127.0.0.1:{port}/{name}"
    async with await open_queue(url) as queue:
        for _ in range(10):  # more often than a library prepares a statement after
            assert (await queue.depth()).waiting == 0
        told = await queue.info()
        assert not told.pushes
        assert {"pooler", "missing"} == {warning.code for warning in told.warnings}
        began = time.monotonic()
        assert not await queue.changed(0.1)
        assert time.monotonic() - began >= 0.1
        listening = "SELECT FROM pg_stat_activity WHERE datname = %s AND query LIKE 'LISTEN%%'"
        assert not postgres.execute(name, listening, name)  # that session may be another client's next
    assert (await info(f"graphile-worker://{LOGIN}127.0.0.1:{postgres.port}/{name}")).pushes
    assert "unsupported startup parameter" in await refusal(url + "?options=-c%20work_mem=64kB")
