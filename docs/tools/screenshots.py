"""Draws docs/page/*.png: every view of the engine's page, light and dark, on a desk and on a phone.

python -m docs.tools.screenshots

A real engine, a real dispatcher and a queue of 60 jobs, of which four run at a time; the browser is Debian's Chromium.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from nullworker.queues import sqlite_jobs
from tests.integration.dispatch.kit import ENDPOINT, Farm, dispatching, farm, python
from tests.integration.page.browser import DESK, PHONE, Tab, chromium, tab

if TYPE_CHECKING:
    from playwright.async_api import Browser

FOLDER = Path(__file__).resolve().parents[1] / "page"
COLOURS = 256
WAITED_S = 26.0


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "jobs.db"
        rng = random.Random(3)
        sqlite_jobs.enqueue(file, [f"job-{number} {rng.uniform(6, 11):.1f}" for number in range(60)])
        async with farm(folder, python("sqlite_consumer.py", str(file), "1")) as running:
            with dispatching(running, folder, sqlite_jobs.url(file), most=8) as dispatcher:
                await asyncio.sleep(WAITED_S)
                async with chromium() as browser:
                    await draw(browser, running)
                dispatcher.kill()


async def draw(browser: Browser, running: Farm) -> None:
    assert running.server is not None
    history = running.server.keeper.history
    for scheme in ("light", "dark"):
        for size, viewport in (("desk", DESK), ("phone", PHONE)):
            async with tab(browser, running.url, viewport=viewport, color_scheme=scheme) as opened:
                await picture(opened, "/", f"sign-in-{size}-{scheme}")
                await opened.sign_in(running.key)
                waiter = next((r.request_idx for r in history.reservations.values() if r.stage == "waiting"), 0)
                worker = next(w.worker_id for w in history.workers.values() if w.state == "held")
                views = {
                    "overview": f"/?at-1={history.workers[worker].changed_at_s:.0f}",
                    "lanes": f"/lanes?span=60&worker={worker}&at={history.workers[worker].changed_at_s + 6:.0f}",
                    "waiting": f"/waiting?endpoint={ENDPOINT}",
                    "worker": f"/worker?id={worker}",
                    "reservation": f"/reservation?id={waiter}",
                    "queues": "/queues",
                    "cost": "/cost?by=job",
                    "decisions": "/decisions",
                    "audit": "/audit",
                }
                for name, path in views.items():
                    await picture(opened, path, f"{name}-{size}-{scheme}")


async def picture(opened: Tab, path: str, name: str) -> None:
    await opened.open(path)
    await opened.page.get_by_role("heading").first.wait_for()
    await opened.page.get_by_text("Asking the engine…").wait_for(state="hidden")
    await asyncio.sleep(0.7)  # for what is fetched after that
    save(await opened.page.screenshot(), FOLDER / f"{name}.png")


def save(content: bytes, path: Path) -> None:
    """With few colours: a picture of a page looks the same, and takes a third."""
    image: Any = Image.open(io.BytesIO(content)).convert("RGB")
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    sys.exit(asyncio.run(main()))
