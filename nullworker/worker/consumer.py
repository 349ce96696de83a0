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
import sys
from typing import TYPE_CHECKING

from nullworker.worker import guard
from nullworker.worker.last_words import LastWords
from nullworker.worker.release import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from nullworker.worker.health import Health
    from nullworker.worker.leases import Lease
    from nullworker.worker.settings import Settings

log = logging.getLogger(__name__)

_PAYLOAD_BYTES_MAX = 100_000  # Linux takes 128 KiB for one variable
_KILL_MARGIN_S = 2.0  # how long the guard may take beyond the grace before it is killed itself


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
        self._process: asyncio.subprocess.Process | None = None

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
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task})

    def hurry(self) -> None:
        """Kills the command, instead of waiting for it to end."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(guard.KILL)

    async def _run(self, lease: Lease, stop: asyncio.Event) -> None:
        last_words, env = LastWords(), self._environment(lease)
        try:
            process = await start(
                self._settings.consumer, self._settings.consumer_grace_s, last_words, env, cwd=self._directory
            )
        except OSError as error:
            last_words.close()
            self._health.fail(f"The consumer could not be started: {error.strerror or error}.")
            await self._let_go(lease)
            return
        self._process = process
        log.info("consumer started as process %d for request %s", process.pid, lease.request_idx)
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if stop.is_set():
            await self._end(process, ended)
            last_words.close()
            return
        code, line = ended.result(), last_words.line(env)
        log.info("consumer of request %s ended with %s", lease.request_idx, how_ended(code))
        if code != 0:
            self._health.fail(why_ill(code, line))
        await self._let_go(lease)

    async def _let_go(self, lease: Lease) -> None:
        try:
            await self._release(lease)
        except ReleaseError as error:
            self._health.fail(str(error))

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        assert process.stdin is not None
        process.stdin.write(guard.TERMINATE)
        await asyncio.wait({ended}, timeout=self._settings.consumer_grace_s + _KILL_MARGIN_S)
        if not ended.done():
            process.kill()
        log.info("consumer told to end, and ended with %s", how_ended(await ended))

    def _environment(self, lease: Lease) -> dict[str, str]:
        url = self._settings.control_url
        return consumer_environment(lease.session_id, lease.request_idx, lease.on_close_payload, url)


def consumer_environment(session_id: str, request_idx: int, payload: object, control_url: str) -> dict[str, str]:
    """What a consumer has in its environment: all of ours but the worker's credential, and what it is held for."""
    # It releases without any credential.
    env = {name: value for name, value in os.environ.items() if name != "MASTER_TOKEN"}
    env["NULL_SESSION_ID"] = session_id
    env["NULL_REQUEST_IDX"] = str(request_idx)
    env["NULL_CONTROL_URL"] = control_url
    text = json.dumps(payload, ensure_ascii=False)
    if len(text.encode()) <= _PAYLOAD_BYTES_MAX:
        env["NULL_PAYLOAD"] = text
    else:
        log.warning("the payload is too large for NULL_PAYLOAD; the consumer can GET /reservation")
    return env


async def start(
    command: Sequence[str], grace_s: float, last_words: LastWords, env: dict[str, str], **how: Any
) -> asyncio.subprocess.Process:
    """Starts a command under its guard.

    Raises:
        OSError: it cannot be started.
    """
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", guard.__file__, str(grace_s), str(last_words.write_end)),
        *command,
        stdin=asyncio.subprocess.PIPE,
        pass_fds=(last_words.write_end,),
        env=env,
        **how,
    )


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
