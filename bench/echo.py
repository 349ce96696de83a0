"""The baseline of the HTTP path: aiohttp and msgspec, and nothing else. What is posted is decoded and sent back."""

from __future__ import annotations

import asyncio
import json

import msgspec
from aiohttp import web

from nullworker.wire.types import WorkerStatus


async def _serve() -> None:
    decoder, encoder = msgspec.json.Decoder(WorkerStatus), msgspec.json.Encoder()

    async def echo(request: web.Request) -> web.Response:
        body = decoder.decode(await request.read())
        return web.Response(body=encoder.encode(body), content_type="application/json")

    app = web.Application()
    app.router.add_post("/worker_status/", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve())
