"""Brokers that are shared by all tests of a test process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.queues.certificates import Certificates, make_certificates
from tests.integration.queues.rabbitmq_server import RabbitmqServer, rabbitmq_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Files for a server with TLS on ``localhost`` and ``::1``, and for a client called ``worker``."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), user="worker")


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[RabbitmqServer]:
    """RabbitMQ; each test declares queues of its own in it."""
    with rabbitmq_server(tmp_path_factory.mktemp("rabbitmq"), certificates) as server:
        yield server
