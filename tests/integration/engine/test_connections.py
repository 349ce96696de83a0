"""Connections that send no request, or never the whole of its head, are closed; all others stay."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from nullworker.engine.api import listening
from tests.integration.engine.kit import config, quick, running
from tests.kit.servers import end_server
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NEVER_S = 10 * HANG_S
SOON_S = 0.2
REQUEST = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = REQUEST[:-2]


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """None but the one that a test sets."""
    monkeypatch.setattr(listening, "FIRST_REQUEST_S", NEVER_S)
    monkeypatch.setattr(listening, "KEEPALIVE_S", NEVER_S)


async def answer(_request: web.BaseRequest) -> web.Response:
    return web.Response(text="here")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """The port of a server."""
    http = listening.HttpServer(answer, 10)
    runner = web.ServerRunner(http, shutdown_timeout=0.1)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(http.accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await end_server(runner)


class Client:
    """A bare connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answered(self) -> bool:
        """Waits for one answer; whether it came."""
        try:
            head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), HANG_S)
            return b" 200 " in head and await self._reader.readexactly(4) == b"here"
        except (asyncio.IncompleteReadError, ConnectionError):
            return False

    async def closed(self) -> None:
        """Waits until the server closes it, having said nothing."""
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(self._reader.read(), HANG_S) == b""

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize("sent", [b"", REQUEST], ids=["new ones", "kept ones"])
async def test_for_one_too_many_the_one_that_asks_for_nothing_for_longest_is_closed(sent: bytes) -> None:
    """So connections that are left open do not keep a worker's report out."""
    async with serving() as port, contextlib.AsyncExitStack() as stack:
        first, *others = [await stack.enter_async_context(connected(port)) for _ in range(10)]
        for each in (first, *others):
            await each.send(sent)
            assert not sent or await each.answered()
        async with connected(port) as one_more:
            await one_more.send(REQUEST)
            assert await one_more.answered()
            await first.closed()
            for each in others:
                await each.send(REQUEST)
                assert await each.answered()


@pytest.mark.parametrize("sent", [b"", HALF], ids=["nothing", "half a head"])
async def test_a_new_connection_that_asks_for_nothing_is_closed_and_no_other(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving() as port, connected(port) as good, connected(port) as later:
        await good.send(REQUEST)
        assert await good.answered()
        monkeypatch.setattr(listening, "FIRST_REQUEST_S", SOON_S)
        async with connected(port) as slow:
            await slow.send(sent)
            await slow.closed()
        for each in (good, later):
            await each.send(REQUEST)
            assert await each.answered()


async def test_one_that_has_asked_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "FIRST_REQUEST_S", SOON_S)
    async with serving() as port, contextlib.AsyncExitStack() as stack:
        good = await stack.enter_async_context(connected(port))
        await good.send(REQUEST)
        while not await good.answered():  # on a slow machine its own time was over
            good = await stack.enter_async_context(connected(port))
            await good.send(REQUEST)
        async with connected(port) as slow:  # whose time ends later than the other's would
            await slow.closed()
        await good.send(REQUEST)
        assert await good.answered()


async def test_what_trickles_in_does_not_lengthen_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "FIRST_REQUEST_S", SOON_S)
    async with serving() as port, connected(port) as slow:
        closed = asyncio.ensure_future(slow.closed())
        with contextlib.suppress(ConnectionError):
            await slow.send(HALF)
            while not closed.done():
                await slow.send(b"X-More: x\r\n")
                await asyncio.sleep(0.01)
        await closed


async def test_half_a_head_after_a_whole_request_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "KEEPALIVE_S", SOON_S)
    async with serving() as port, contextlib.AsyncExitStack() as stack:
        slow = await stack.enter_async_context(connected(port))
        await slow.send(REQUEST)
        while not await slow.answered():  # on a slow machine its time was over before it had asked
            slow = await stack.enter_async_context(connected(port))
            await slow.send(REQUEST)
        with contextlib.suppress(ConnectionError):
            await slow.send(HALF)
        await slow.closed()


async def test_after_a_suspension_the_time_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent meanwhile is in the socket, and not read yet."""
    monkeypatch.setattr(listening, "FIRST_REQUEST_S", 0.01)
    monkeypatch.setattr(listening, "SUSPENDED_S", -NEVER_S)  # every timer comes as if after a suspension
    begun = []
    begin = listening.HttpServer._expect_request

    def count(http: listening.HttpServer, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        begun.append(handler)
        begin(http, handler, transport)

    monkeypatch.setattr(listening.HttpServer, "_expect_request", count)
    async with serving() as port, connected(port) as client:
        await until(lambda: len(begun) >= 3, "its time has begun again twice")
        await client.send(REQUEST)
        assert await client.answered()


async def test_an_engine_closes_such_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "FIRST_REQUEST_S", SOON_S)
    async with running(config(tmp_path, quick(max_workers=0))) as engine:
        async with connected(int(engine.url.rpartition(":")[2])) as slow:
            await slow.send(HALF)
            await slow.closed()
        await until(lambda: not engine.server.connections, "nothing is left of it")
