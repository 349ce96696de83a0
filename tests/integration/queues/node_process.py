"""A Node process that does what a test asks of it with a queue's own library, one line of JSON at a time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.integration.queues.brokers import node_library

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

FOLDER = Path(__file__).parent / "node_pg"
CALL_LIMIT_S = 30
LINE_BYTES_MAX = 1 << 20


class NodeProcess:
    """Calls operations of one script in `FOLDER`, several at the same time if need be."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._ids = itertools.count()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def start(self) -> None:
        """Starts the process."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX
        )
        self._reader = asyncio.create_task(self._read())

    async def call(self, op: str, **request: Any) -> Any:
        """The operation's result; AssertionError with Node's stack when it failed."""
        number = next(self._ids)
        self._answers[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "op": op, **request}).encode() + b"\n")
        return await asyncio.wait_for(self._answers[number], CALL_LIMIT_S)

    async def close(self) -> None:
        """Kills the process, with whatever it is at; `start` starts another."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            message = json.loads(line)
            answer = self._answers.pop(message["id"])
            if answer.done():
                continue
            if "error" in message:
                answer.set_exception(AssertionError(message["error"]))
            else:
                answer.set_result(message["result"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(AssertionError("the Node process ended"))


@contextlib.asynccontextmanager
async def node_process(script: str, *arguments: str) -> AsyncIterator[NodeProcess]:
    """Runs a script of `FOLDER`, with its libraries, until the end of the block."""
    node, directory = await asyncio.to_thread(node_library, FOLDER)
    for source in FOLDER.glob("*.mjs"):  # a module finds its libraries from where it lies
        there = directory / source.name
        if not there.exists() or there.read_bytes() != source.read_bytes():
            shutil.copy(source, there)
    running = NodeProcess([node, "--no-warnings", str(directory / script), *arguments])
    await running.start()
    try:
        yield running
    finally:
        await running.close()
