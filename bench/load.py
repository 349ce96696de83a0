"""A load on an HTTP server: so many connections, each of which sends its next request when its last was answered.

Reads orders on stdin, one JSON object a line, and prints what came of each. The first says what to send: {url, reports:
[[path, body], ...]} for requests one after another, {url, reserve: {endpoint, api_key, tokens}} for reservations that
are asked for and ended. Each one after it says for how long: {connections, seconds}. In a process of its own, so that
the server's core is the server's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
import time
from collections import Counter
from typing import Any, Protocol
from urllib.parse import urlsplit

import uvloop

FIRST_PORT = 20_000  # worker 1 says that it is at the next one


class Talk(Protocol):
    """What a connection sends: its first request, and the next one after each answer."""

    def next(self, answer: bytes | None) -> bytes: ...


class Reports:
    """The same requests over and over, shared by all connections."""

    def __init__(self, host: str, requests: list[tuple[str, str]]) -> None:
        self._requests = itertools.cycle([request(host, path, body) for path, body in requests])

    def next(self, answer: bytes | None) -> bytes:  # noqa: ARG002 - nothing depends on it
        return next(self._requests)


class Reservations:
    """A worker is asked for, and its session ended, over and over."""

    def __init__(self, host: str, endpoint: str, api_key: str, tokens: list[str]) -> None:
        body = {"endpoint": endpoint, "api_key": api_key, "cost": 100, "request_idx": 0}
        self._host, self._tokens = host, tokens
        self._ask = request(host, "/route/", json.dumps(body))

    def next(self, answer: bytes | None) -> bytes:
        granted = json.loads(answer) if answer else {}
        if "url" not in granted:
            return self._ask
        worker_id = int(granted["url"].rpartition(":")[2]) - FIRST_PORT
        over = {"request_idx": granted["request_idx"], "success": True, "status": "Success"}
        body = {"worker_id": worker_id, "mtoken": self._tokens[worker_id - 1], "requests": [over]}
        return request(self._host, "/delete_requests/", json.dumps(body))


class Connection(asyncio.Protocol):
    """Sends a request, waits for the whole answer, sends the next."""

    def __init__(self, talk: Talk, tally: Counter[int], times: list[float]) -> None:
        self._talk = talk
        self._tally = tally
        self._times = times
        self._buffer = b""
        self._transport: Any = None
        self._sent_at = 0.0
        self.running = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send(None)

    def _send(self, answer: bytes | None) -> None:
        following = self._talk.next(answer)
        self._sent_at = time.perf_counter()
        self._transport.write(following)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < int(length):
            return
        self._times.append(time.perf_counter() - self._sent_at)
        self._tally[int(head[9:12])] += 1
        self._buffer = b""
        if self.running:
            self._send(body)
        else:
            self._transport.close()


def request(host: str, path: str, body: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode()


async def _run(host: str, port: int, talk: Talk, count: int, seconds: float) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    tally: Counter[int] = Counter()
    times: list[float] = []
    connections = [Connection(talk, tally, times) for _ in range(count)]
    began = time.perf_counter()
    for connection in connections:
        with contextlib.suppress(OSError):  # a machine that is busy with other things may not answer in time
            await loop.create_connection(lambda connection=connection: connection, host, port)  # type: ignore[misc]  # mypy infers no lambda with a default
    await asyncio.sleep(seconds)
    for connection in connections:
        connection.running = False
    took_s = time.perf_counter() - began
    await asyncio.sleep(0.05)
    times = sorted(times) or [took_s]
    return {
        "seconds": took_s,
        "answers": {str(status): count for status, count in tally.items()},
        "p50_ms": times[len(times) // 2] * 1000,
        "p99_ms": times[len(times) * 99 // 100] * 1000,
    }


def main() -> None:
    """Carries out the orders on stdin."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word, and with it who waits for its answer
    first = json.loads(sys.stdin.readline())
    parts = urlsplit(first["url"])
    host, port = parts.hostname or "", parts.port or 0
    talk = Reservations(host, **first["reserve"]) if "reserve" in first else Reports(host, first["reports"])
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(uvloop.run(_run(host, port, talk, order["connections"], order["seconds"]))), flush=True)


if __name__ == "__main__":
    main()
