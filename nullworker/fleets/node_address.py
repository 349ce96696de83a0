"""The address of a cluster's node, as the engine's machine can reach it: a node may have several."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit


def address_towards(report_addr: str) -> str:
    """The address from which this node reaches the engine.

    Args:
        report_addr: the engine's address, REPORT_ADDR of a worker; of several, the first counts.

    Raises:
        OSError: there is no way there.
    """
    url = urlsplit(report_addr.partition(",")[0].strip())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((url.hostname or "127.0.0.1", url.port or 80))  # sends nothing
        return str(probe.getsockname()[0])
