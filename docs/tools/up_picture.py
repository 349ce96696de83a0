"""Draws what ``nullworker up`` shows, from a run of its own: ``python -m docs.tools.up_picture``."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shlex
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nullworker.cli.up.plan import Plan
from nullworker.cli.up.run import open_log
from nullworker.cli.up.screen import Screen
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.dispatch.binding import BindingSettings
from nullworker.dispatch.dispatcher import Dispatcher
from nullworker.dispatch.settings import DispatchSettings
from nullworker.engine.config import EndpointConfig, EngineConfig, WorkergroupConfig
from nullworker.engine.server import Server
from nullworker.queues import sqlite_jobs
from nullworker.wire import tasks

PICTURE = Path(__file__).resolve().parents[1] / "pictures" / "up.svg"
CONSUMER = """import time
from nullworker.queues import sqlite_jobs
job = sqlite_jobs.claim("jobs.db", worker="picture")
time.sleep(3)
sqlite_jobs.finish("jobs.db", job)"""
WIDTH = 118


async def drawn() -> str:
    """The screen in the middle of a run, as SVG without a font from elsewhere."""
    sqlite_jobs.enqueue("jobs.db", [f"frame {number}" for number in range(7)])
    group = WorkergroupConfig(consumer=shlex.join([sys.executable, "-c", CONSUMER]))
    parameters = replace(TESTED_PARAMETERS, max_workers=3, inactivity_timeout=10)
    engine = EngineConfig("127.0.0.1", 0, Path("state"), (EndpointConfig("up", parameters, (group,)),))
    plan = Plan(engine, DispatchSettings((BindingSettings("up", "sqlite://./jobs.db", most=3),)))
    log_file = open_log(plan.engine.state)
    server = await Server.open(engine, {})
    try:
        screen = Screen(plan, server, log_file)
        key, store = server.keys.account_key.reveal(), server.state_dir / "dispatch.db"
        async with Dispatcher(
            plan.dispatch.bindings, instance=server.url, api_key=key, store_file=store, on_change=screen.queue_changed
        ) as dispatcher:
            running = tasks.start(dispatcher.run())
            await asyncio.sleep(5.5)
            console = Console(record=True, width=WIDTH, file=io.StringIO())
            console.print(screen.picture())
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        svg = console.export_svg(title="nullworker up --queue sqlite://./jobs.db --max 3 -- python consumer.py")
        return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, ", "")
    finally:
        await server.close()


def main() -> None:
    """Writes the picture."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        text = asyncio.run(drawn())
    PICTURE.write_text(text)


if __name__ == "__main__":
    main()
