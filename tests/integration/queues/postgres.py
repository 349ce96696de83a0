"""A PostgreSQL server for the tests: made from nothing, on a free port, with durability switched off for speed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from tests.integration.queues.brokers import accepts, program, running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SERVER_USER = "postgres"  # made by the Debian package; the server refuses to run as root
USER = "worker"
PASSWORD = "s3cret-pass"
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 2 << 30
FAST = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=60",
    "autovacuum_naptime=5",
    "dynamic_shared_memory_type=mmap",  # in its own directory, whatever ends it
)


class Postgres:
    """A server in a directory of its own; it keeps its port and its databases when it is stopped and started."""

    def __init__(self, directory: Path, *settings: str) -> None:
        self.directory = directory
        self._settings = (*FAST, *settings)
        self.port = free_port()
        self._made = 0
        self._running = contextlib.ExitStack()
        self._program = program("postgres")
        _initdb(program("initdb"), directory)

    def start(self) -> None:
        """Starts it, and waits until it accepts its user."""
        options = [part for setting in self._settings for part in ("-c", setting)]
        command = [self._program, "-D", "data", "-p", str(self.port), "-k", str(self.directory), "-h", "127.0.0.1"]
        broker = self._running.enter_context(
            running(
                [*command, *options],
                port=self.port,
                directory=self.directory,
                ready=lambda: _ready(self.port),
                as_user=SERVER_USER,
            )
        )
        # SIGTERM alone waits for every client to leave; SIGINT does not, and ends the transactions properly.
        self._running.callback(os.kill, broker.pid, signal.SIGINT)

    def stop(self) -> None:
        """Stops it. Twice is no error."""
        self._running.close()

    def create_database(self) -> str:
        """A new, empty database; its name."""
        self._made += 1
        name = f"db{os.getpid()}_{self._made}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return name

    def dsn(self, database: str) -> str:
        """For psycopg and node-postgres alike."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def url(self, scheme: str, database: str, parameters: str = "") -> str:
        """For an adapter."""
        address = f"{scheme}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"
        return f"{address}?{parameters}" if parameters else address

    def execute(self, database: str, query: str, *parameters: object) -> list[dict[str, Any]]:
        """Runs one statement; its rows, if any."""
        with psycopg.connect(self.dsn(database), autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def postgres_server(
    *settings: str, files: Mapping[str, Path] | None = None, access: Sequence[str] = ()
) -> Iterator[Postgres]:
    """A server that runs, and is gone with all its databases afterwards.

    Args:
        settings: of the server, each ``name=value``.
        files: copied into its data, under these names.
        access: lines for the beginning of ``pg_hba.conf``.
    """
    with place() as directory:
        server = Postgres(directory, *settings)
        for name, path in (files or {}).items():
            shutil.copy(path, directory / "data" / name)
        rules = directory / "data" / "pg_hba.conf"
        rules.write_text("\n".join((*access, rules.read_text())))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A directory that another user can reach into; gone afterwards."""
    directory = tempfile.mkdtemp(prefix="nullworker-pg-", dir=_place())
    try:
        yield Path(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _place() -> str | None:
    """In memory where there is room, for dozens of databases are slow to write and to delete; else in ``/tmp``.

    Short in any case: the path of a Unix socket has 107 characters at most.
    """
    has_room = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_BYTES_MIN
    return str(MEMORY) if has_room else None


def _initdb(initdb: str, directory: Path) -> None:
    password_file = directory / "password"
    password_file.write_text(PASSWORD)
    command = [initdb, "-D", "data", "-U", USER, "--pwfile=password", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"]
    if os.geteuid() == 0:
        for path in (directory, password_file):
            shutil.chown(path, SERVER_USER)
        command = ["setpriv", "--reuid", SERVER_USER, "--regid", SERVER_USER, "--init-groups", "--", *command]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=60)


def _ready(port: int) -> bool:
    if not accepts(port):
        return False
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{port}/postgres").close()
        return True
    return False
