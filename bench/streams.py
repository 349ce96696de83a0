"""Keeps so many streams of an engine's page open, as that many browsers would, and reads what comes.

python -m bench.streams URL KEY COUNT; prints a line once each has had its first view, and ends with its input.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp

VIEWS = ("overview", "lanes", "waiting", "decisions", "queues", "cost")


async def read(http: aiohttp.ClientSession, url: str, number: int, begun: asyncio.Semaphore) -> None:
    address = f"{url}/api/v0/live/?view={VIEWS[number % len(VIEWS)]}"
    async with http.get(address) as answer:
        first = True
        async for piece in answer.content.iter_any():
            if first and b"\n\n" in piece:
                first = False
                begun.release()


async def main(url: str, key: str, count: int) -> None:
    begun = asyncio.Semaphore(0)
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as http:
        streams = [asyncio.ensure_future(read(http, url, number, begun)) for number in range(count)]
        for _ in streams:
            await begun.acquire()
        print("open", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
