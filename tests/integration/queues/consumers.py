"""Consumer processes with the real library: each takes one job and holds it until told to end it (see work.py)."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import redis

from tests.integration.queues.brokers import stop
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from tests.integration.queues.redis_server import RedisDatabase

ROOT = Path(__file__).parents[3]
LIMIT_S = 60.0  # a hang limit: a consumer needs about a second to start
CONTROL_DATABASE = 999  # of the same server; no test's queue is in it


@dataclass
class Held:
    """A consumer at work on one job."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    begun_key: str
    release_key: str

    def tail(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-3000:]


class Consumers:
    """Starts consumers, ends their jobs when told, and ends whatever is left with the ``with`` block."""

    _numbers = itertools.count()

    def __init__(self, database: RedisDatabase) -> None:
        self._control_url = f"redis://127.0.0.1:{database.port}/{CONTROL_DATABASE}"
        self._client = redis.Redis.from_url(self._control_url, socket_timeout=LIMIT_S)
        self._held: list[Held] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        for held in self._held:
            stop(held.process, signal.SIGKILL)
            held.log.close()
        self._client.close()

    async def start(self, *command: str, env: Mapping[str, str] | None = None) -> Held:
        """Starts a consumer that takes one job; returns when it is at work on it.

        Args:
            command: the arguments of this Python (``"-m", "rq.cli", …``), or a program with an absolute path.
            env: variables to add.

        Raises:
            AssertionError: it ended, or began nothing; with the end of its log.
        """
        number = f"{os.getpid()}-{next(self._numbers)}"
        begun_key, release_key = f"begun-{number}", f"release-{number}"
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TEST_CONTROL_URL": self._control_url,
            "TEST_BEGUN_KEY": begun_key,
            "TEST_RELEASE_KEY": release_key,
            **(env or {}),
        }
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end, with the consumer
        arguments: Sequence[str] = command if Path(command[0]).is_absolute() else (sys.executable, *command)
        process = await asyncio.to_thread(
            subprocess.Popen,
            arguments,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        held = Held(process, log, begun_key, release_key)
        self._held.append(held)
        await until(lambda: self._client.llen(begun_key) or process.poll() is not None, f"{command} to begin a job")
        assert self._client.llen(begun_key), f"{command} ended with {process.returncode}:\n{held.tail()}"
        return held

    def begun(self, held: Held) -> str:
        """What a consumer said when it began its job."""
        return bytes(self._client.lindex(held.begun_key, 0) or b"").decode()  # type: ignore[arg-type]  # redis-py's answer may be awaitable

    async def kill(self, held: Held) -> None:
        """Kills a consumer with everything that it started, in the middle of its job."""
        os.killpg(held.process.pid, signal.SIGKILL)
        await asyncio.to_thread(held.process.wait, LIMIT_S)

    def end_job(self, held: Held) -> None:
        """Lets the job of a consumer end."""
        self._client.rpush(held.release_key, "go")

    async def finish(self, held: Held, *, ends_by_itself: bool = True) -> None:
        """Lets a consumer's job end with success, and waits until the consumer has gone.

        A consumer that does not end by itself after one job is told to by SIGTERM, once its job has ended.
        """
        self.end_job(held)
        if not ends_by_itself:
            stop(held.process)
            return
        await asyncio.to_thread(held.process.wait, LIMIT_S)
        assert held.process.returncode == 0, f"a consumer ended with {held.process.returncode}:\n{held.tail()}"
