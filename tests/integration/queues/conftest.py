"""Brokers that are shared by all tests of a test process."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.integration.queues.postgres import Postgres, postgres_server
from tests.integration.queues.redis_server import RedisDatabase, redis_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; each test makes a database of its own in it."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], RedisDatabase]]:
    """Gives a fresh database of one shared Redis, which tells of changes (keyspace notifications are on)."""
    with redis_server(tmp_path_factory.mktemp("redis"), "--notify-keyspace-events", "KA") as broker:
        numbers = itertools.count()
        yield lambda: RedisDatabase(broker.port, next(numbers))


@pytest.fixture
def database(redis_databases: Callable[[], RedisDatabase]) -> RedisDatabase:
    """A fresh database of the shared Redis server."""
    return redis_databases()
