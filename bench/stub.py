"""The least that the vastai client needs: a server that answers at once what an engine and a worker would.

What a reservation costs against it is two bare round trips and the SDK's own work, and nothing of an engine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from aiohttp import web


async def _serve(ca: bytes) -> None:
    count = 0

    async def certificate(_: web.Request) -> web.Response:
        return web.Response(body=ca)

    async def endpoints(_: web.Request) -> web.Response:
        row = {"id": 1, "endpoint_name": "null-local", "api_key": "k", "user_id": 1, "created_at": 0.0}
        return web.json_response({"success": True, "results": [row]})

    async def route(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        body = await request.json()
        answer = {"request_idx": count, "url": url, "signature": "s", "cost": body["cost"], "reqnum": count}
        return web.json_response({**answer, "endpoint": "null-local"})

    async def create(request: web.Request) -> web.Response:
        await request.json()
        return web.json_response({"session_id": "s", "expiration": 0.0}, status=201)

    async def end(request: web.Request) -> web.Response:
        await request.json()
        return web.json_response({"ended": True})

    app = web.Application()
    app.router.add_get("/static/jvastai_root.cer", certificate)
    app.router.add_get("/api/v0/endptjobs/", endpoints)
    app.router.add_post("/route/", route)
    app.router.add_post("/session/create", create)
    app.router.add_post("/session/end", end)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None  # noqa: SLF001 - aiohttp has no public way to ask for the port
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # noqa: SLF001 - as above
    url = f"http://127.0.0.1:{port}"
    print(json.dumps({"url": url}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ca", type=Path, help="a CA certificate in PEM, for the client to load")
    asyncio.run(_serve(parser.parse_args().ca.read_bytes()))
