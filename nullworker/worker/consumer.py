"""The consumer: the user's program, started when a reservation opens and ended when it closes.

It runs under `guard`, which ends it with all that it started, should this process be killed. Its end ends the
reservation; ending with a non-zero code, without having been told to, makes the worker ill. At most one runs: a holder
that comes early waits for the one before to be gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING

from nullworker.worker import guard
from nullworker.worker.guarded import Guards, without_credential
from nullworker.worker.release import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from nullworker.worker.guarded import Guarded
    from nullworker.worker.health import Health
    from nullworker.worker.leases import Lease
    from nullworker.worker.settings import Settings

log = logging.getLogger(__name__)

_PAYLOAD_BYTES_MAX = 100_000  # Linux takes 128 KiB for one variable


class Consumer:
    """Runs the command of the settings for one lease after another.

    ``release`` ends the reservation of a lease; it is called when the command has ended by itself.
    """

    def __init__(self, settings: Settings, health: Health, release: Callable[[Lease], Awaitable[object]]) -> None:
        self._settings = settings
        self._health = health
        self._release = release
        # The worker may move; the consumer starts where it was told, or where the worker did.
        self._directory = settings.consumer_dir or os.getcwd()  # noqa: PTH109 - as text
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._closing = False
        self._guards = Guards()
        self._guarded: Guarded | None = None

    def prepare(self) -> None:
        """Has what the command will need started before a reservation opens."""
        if self._settings.consumer and not self._closing and (self._task is None or self._task.done()):
            self._guards.prepare()

    def session_opened(self, lease: Lease) -> None:
        """Starts the command for a lease."""
        if self._settings.consumer:
            self._stop = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(lease, self._stop))

    def session_closed(self, _lease: Lease) -> None:
        """Has the command ended."""
        self._stop.set()

    async def vacant(self) -> bool:
        """Waits for the command to have ended, as long as a new holder can be kept waiting; says whether it has."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=self._settings.create_wait_s)
        return self._task is None or self._task.done()

    async def close(self) -> None:
        """Ends the command; returns when it is gone."""
        self._closing = True
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        await self._guards.close()

    def hurry(self) -> None:
        """Kills the command, instead of waiting for it to end."""
        if self._guarded is not None:
            self._guarded.hurry()

    async def _run(self, lease: Lease, stop: asyncio.Event) -> None:
        try:
            guarded = self._guarded = await self._guards.take()
        except OSError as error:
            self._health.fail(f"The consumer could not be started: {error.strerror or error}.")
            await self._let_go(lease)
            return
        guarded.start(
            self._settings.consumer, self._settings.consumer_grace_s, self._environment(lease), self._directory
        )
        log.info("consumer started under process %d for request %s", guarded.pid, lease.request_idx)
        stopped = asyncio.ensure_future(stop.wait())
        either: set[asyncio.Future[Any]] = {guarded.ended, stopped}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if stop.is_set():
            log.info("consumer told to end, and ended with %s", how_ended(await guarded.end()))
            guarded.close()
        else:
            code, line = guarded.ended.result(), guarded.last_line()
            log.info("consumer of request %s ended with %s", lease.request_idx, how_ended(code))
            if code != 0:
                self._health.fail(why_ill(code, line))
            await self._let_go(lease)
        if not self._closing:
            self._guards.prepare()

    async def _let_go(self, lease: Lease) -> None:
        try:
            await self._release(lease)
        except ReleaseError as error:
            self._health.fail(str(error))

    def _environment(self, lease: Lease) -> dict[str, str]:
        url = self._settings.control_url
        return consumer_environment(lease.session_id, lease.request_idx, lease.on_close_payload, url)


def consumer_environment(session_id: str, request_idx: int, payload: object, control_url: str) -> dict[str, str]:
    """What a consumer has in its environment: all of ours but the worker's credential, and what it is held for."""
    env = without_credential(os.environ)
    env["NULL_SESSION_ID"] = session_id
    env["NULL_REQUEST_IDX"] = str(request_idx)
    env["NULL_CONTROL_URL"] = control_url
    text = json.dumps(payload, ensure_ascii=False)
    if len(text.encode()) <= _PAYLOAD_BYTES_MAX:
        env["NULL_PAYLOAD"] = text
    else:
        log.warning("the payload is too large for NULL_PAYLOAD; the consumer can GET /reservation")
    return env


def why_ill(code: int, last_line: str) -> str:
    """Why a worker is ill whose consumer ended with this code: one sentence, with the last line that it wrote."""
    said = f": {last_line}" if last_line else "."
    return f"The consumer ended with {how_ended(code)} while its reservation was open{said}"


def how_ended(code: int) -> str:
    """A guard's exit code in words."""
    if code == guard.NOT_STARTED:
        return f"exit code {code} (a command was not found)"
    if code > 128:
        return f"exit code {code} (signal {code - 128})"
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
