"""The demo from its beginning to its end: an engine, an endpoint with no worker, a queue, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nullworker.cli.demo import timeline
from nullworker.cli.demo.consumer import FAILED, OUTPUT
from nullworker.cli.demo.history import BOOTING, LEAVING, History, Moment
from nullworker.cli.demo.mandelbrot import join_tiles
from nullworker.core import views
from nullworker.core.parameters import Parameters
from nullworker.dispatch.binding import BindingSettings
from nullworker.dispatch.dispatcher import Dispatcher
from nullworker.engine.auth.keys import Role
from nullworker.engine.config import EndpointConfig, EngineConfig, WorkergroupConfig
from nullworker.engine.server import Server
from nullworker.queues import sqlite_jobs
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINT = "demo"
LOOK_S = 0.1
POLL_S = 0.25
#: A limit for hangs on this machine.
DEADLINE_S = 60.0
#: The same where workers come up on other machines.
FAR_DEADLINE_S = 600.0
#: A place may keep what ran a job for a moment longer than the job: Ray does.
FAR_END_S = 15.0
LOCAL_FLEET = "processes"
#: As the tested parameters, but for a show: a free worker goes after two seconds.
IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Show:
    """What is to be shown."""

    jobs: list[str]
    at_most: int
    folder: Path
    command: list[str]  # run for each job; empty: the Mandelbrot set is drawn
    fleet: str = LOCAL_FLEET
    base: EngineConfig | None = None  # whose engine and fleets are used; None: the defaults

    @property
    def deadline_s(self) -> float:
        """For a job to get a worker, and for the fleet to go back to zero; a hang limit."""
        return DEADLINE_S if self.fleet == LOCAL_FLEET else FAR_DEADLINE_S


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of it."""

    jobs_done: int
    jobs_failed: int
    jobs_lost: int
    reservations: int
    workers_created: int
    peak_workers: int
    workers_left: int
    processes_left: int
    worker_seconds_held: float
    worker_seconds_idle: float
    worker_seconds_booting: float
    first_grant_s: float | None
    total_s: float
    picture: str
    timeline: str
    output: str  # where what the user's own command printed is; "": the picture was drawn
    first_failure: str  # the end of what the first job that failed printed

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return asdict(self)


async def play(
    show: Show,
    on_look: Callable[[Moment, list[dict[str, Any]]], None],
    on_ready: Callable[[str, str], None] = lambda _url, _key: None,
) -> Summary:
    """Runs the demo.

    Args:
        show: what is shown.
        on_look: called with the state some times a second.
        on_ready: called with the address of the engine's page and the key that signs in there, and changes nothing.

    Raises:
        ServerError, ClientError, QueueError: it could not go on; everything that it started is ended.
    """
    show.folder.mkdir(parents=True, exist_ok=True)
    for old in (*show.folder.glob("tile-*.png"), *show.folder.glob(f"{OUTPUT}*.txt")):
        old.unlink()
    # What other machines are to see is where they see the picture.
    place = None if show.fleet == LOCAL_FLEET else show.folder.absolute()
    with TemporaryDirectory(prefix="nullworker-demo-", dir=place) as scratch:
        jobs_file = Path(scratch) / "jobs.db"
        sqlite_jobs.enqueue(jobs_file, show.jobs)
        history = History()
        began_s = time.monotonic()
        server = await Server.open(_config(show, Path(scratch), jobs_file), {})
        try:
            _, key = server.keys.ring.create("visitor", Role.READ)
            on_ready(server.url, key.reveal())
            looking = tasks.start(_look(server, jobs_file, history, began_s, on_look))
            try:
                opened = await _work(server, jobs_file, show)
                await _until_zero(server, show.deadline_s)
            finally:
                looking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await looking
            history.add(_moment(server, jobs_file, began_s))
            created = sum(d.kind == "create" for d in server.decisions.about())
            left = len(server.driver.engine.state.workers)
            first = next((d.at_s for d in server.decisions.about() if d.kind == "grant"), None)
            first_ask = next((d.at_s for d in server.decisions.about() if d.kind == "create"), None)
        finally:
            await server.close()
        counts = sqlite_jobs.counts(jobs_file)
        return Summary(
            jobs_done=counts.get("done", 0),
            jobs_failed=counts.get("failed", 0),
            jobs_lost=len(show.jobs) - counts.get("done", 0) - counts.get("failed", 0),
            reservations=opened,
            workers_created=created,
            peak_workers=history.peak_workers,
            workers_left=left,
            processes_left=await _processes_left(scratch, 0.0 if show.fleet == LOCAL_FLEET else FAR_END_S),
            worker_seconds_held=round(history.held_s, 1),
            worker_seconds_idle=round(history.idle_s, 1),
            worker_seconds_booting=round(history.booting_s, 1),
            first_grant_s=None if first is None or first_ask is None else round(first - first_ask, 2),
            total_s=round(time.monotonic() - began_s, 1),
            picture=_picture(show),
            timeline=_timeline(show, history),
            output=str(show.folder / f"{OUTPUT}*.txt") if show.command else "",
            first_failure=_first_failure(show),
        )


def _config(show: Show, scratch: Path, jobs_file: Path) -> EngineConfig:
    parameters = Parameters(
        min_load=0.0,
        target_util=1.0,
        cold_mult=1.0,
        cold_workers=0,
        max_workers=show.at_most,
        max_queue_time=1.0,
        target_queue_time=0.5,
        inactivity_timeout=IDLE_S,
    )
    consumer = [sys.executable, "-m", "nullworker.cli.demo.consumer"]
    if show.command:
        consumer += ["--", *show.command]
    group = WorkergroupConfig(
        fleet=show.fleet,
        consumer=shlex.join(consumer),
        env={"DEMO_QUEUE": str(jobs_file), "DEMO_TILES": str(show.folder.absolute())},
    )
    endpoint = EndpointConfig(ENDPOINT, parameters, (group,))
    if show.base is None:
        return EngineConfig("127.0.0.1", 0, scratch / "state", (endpoint,))
    return replace(show.base, state=scratch / "state", endpoints=(endpoint,), journal=None)


async def _work(server: Server, jobs_file: Path, show: Show) -> int:
    """Dispatches until all jobs are done, or nothing changed for the deadline; returns how often one was granted."""
    binding = BindingSettings(ENDPOINT, sqlite_jobs.url(jobs_file), most=show.at_most, poll_s=POLL_S)
    dispatcher = Dispatcher(
        (binding,),
        instance=server.url,
        api_key=server.keys.account_key.reveal(),
        store_file=server.state_dir / "dispatch.db",
    )
    async with dispatcher:
        running = tasks.start(dispatcher.run(until_empty=True))
        try:
            before: dict[str, int] = {}
            while not running.done() and before != (before := sqlite_jobs.counts(jobs_file)):
                await asyncio.wait({running}, timeout=show.deadline_s)
            if running.done():
                running.result()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return sum(decision.kind == "grant" for decision in server.decisions.about())


async def _until_zero(server: Server, deadline_s: float) -> None:
    give_up_at = time.monotonic() + deadline_s
    while server.driver.engine.state.workers and time.monotonic() < give_up_at:  # noqa: ASYNC110 - the core has no events
        await asyncio.sleep(LOOK_S)


async def _look(
    server: Server,
    jobs_file: Path,
    history: History,
    began_s: float,
    on_look: Callable[[Moment, list[dict[str, Any]]], None],
) -> None:
    while True:
        moment = _moment(server, jobs_file, began_s)
        history.add(moment)
        on_look(moment, [views.as_json(worker) for worker in views.workers(server.driver.engine)])
        await asyncio.sleep(LOOK_S)


def _moment(server: Server, jobs_file: Path, began_s: float) -> Moment:
    jobs = sqlite_jobs.counts(jobs_file)
    endpoint = views.endpoints(server.driver.engine)[0]
    workers = endpoint.workers
    return Moment(
        at_s=time.monotonic() - began_s,
        waiting_jobs=jobs.get("waiting", 0),
        waiters=endpoint.waiting,
        booting=sum(workers.get(state, 0) for state in BOOTING),
        ready=workers.get("ready", 0),
        held=workers.get("held", 0),
        leaving=sum(workers.get(state, 0) for state in LEAVING),
        done=jobs.get("done", 0),
    )


async def _processes_left(scratch: str, patience_s: float) -> int:
    """Processes that still have the demo's folder in their environment, once there are none or patience ends."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + patience_s
    while (left := _processes_with(scratch)) and loop.time() < ends_at:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.2)
    return left


def _processes_with(scratch: str) -> int:
    left = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                left += scratch.encode() in (entry / "environ").read_bytes()
    return left


def _picture(show: Show) -> str:
    if show.command:
        return ""
    path = show.folder / "mandelbrot.png"
    join_tiles(show.folder, path)
    for tile in show.folder.glob("tile-*.png"):
        tile.unlink()
    return str(path)


def _first_failure(show: Show) -> str:
    for job in show.jobs:
        with contextlib.suppress(OSError):
            lines = (show.folder / f"{OUTPUT}{job}.txt").read_text(errors="replace").splitlines()
            if lines and lines[-1].startswith(FAILED):
                return f"job {job}: {' '.join(lines[-2:])}"[-300:]
    return ""


def _timeline(show: Show, history: History) -> str:
    path = show.folder / "timeline.svg"
    timeline.draw(history.moments, path)
    return str(path)
