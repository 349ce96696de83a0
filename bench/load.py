"""A load on an HTTP server: so many connections, each of which sends its next request when its last was answered.

Reads one JSON object on stdin ({host, port, connections, seconds, requests: [[path, body], ...]}), and prints one with
what was answered when the time is over. In a process of its own, so that the server's core is the server's alone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from typing import Any


class Connection(asyncio.Protocol):
    """Sends a request, waits for the whole answer, sends the next."""

    def __init__(self, requests: itertools.cycle[bytes], tally: Counter[int]) -> None:
        self._requests = requests
        self._tally = tally
        self._buffer = b""
        self._transport: Any = None
        self.running = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < int(length):
            return
        self._tally[int(head[9:12])] += 1
        self._buffer = b""
        if self.running:
            self._transport.write(next(self._requests))
        else:
            self._transport.close()


def request(host: str, path: str, body: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


async def _run(order: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    tally: Counter[int] = Counter()
    requests = itertools.cycle([request(order["host"], path, body) for path, body in order["requests"]])
    connections = [Connection(requests, tally) for _ in range(order["connections"])]
    began = time.perf_counter()
    for connection in connections:
        await loop.create_connection(lambda connection=connection: connection, order["host"], order["port"])  # type: ignore[misc]  # mypy infers no lambda with a default
    await asyncio.sleep(order["seconds"])
    for connection in connections:
        connection.running = False
    took_s = time.perf_counter() - began
    await asyncio.sleep(0.2)
    return {"seconds": took_s, "answers": {str(status): count for status, count in tally.items()}}


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(_run(json.load(sys.stdin)))))
