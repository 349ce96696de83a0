"""Brokers that are shared by all tests of a test process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.queues.rabbitmq_server import RabbitmqServer, rabbitmq_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitmqServer]:
    """RabbitMQ; each test declares queues of its own in it."""
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server
