"""Starts and talks to supervisor processes (`supervisor_main`), each of which runs one command.

A supervisor is started before its command is known, because an interpreter takes tens of milliseconds to start, and a
new reservation should not wait for that: `SupervisorPool` keeps one spare.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from typing import TYPE_CHECKING

from nullworker.wire import tasks
from nullworker.worker import supervisor_main
from nullworker.worker.idleness import Output
from nullworker.worker.stderr_tail import StderrTail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_KILL_MARGIN_S = 2.0  # how long a supervisor may take beyond the grace before it is killed itself
_SPARE_ENDS_S = 5.0


class Supervisor:
    """A supervisor process, which waits for its command or runs it; made by `spawn`.

    Args:
        process: the supervisor.
        stderr_tail: the pipe to which it writes the end of the command's standard error.
        outputs: the command's output, where that is counted.
    """

    def __init__(self, process: asyncio.subprocess.Process, stderr_tail: StderrTail, outputs: list[Output]) -> None:
        self.outputs = outputs  # of the command, where they are counted
        self.ended: asyncio.Future[int] = tasks.start(process.wait())
        self._process = process
        self._stderr_tail = stderr_tail
        self._env: Mapping[str, str] = {}
        self._grace_s = 0.0

    @classmethod
    async def spawn(cls, *, counts_output: bool = False) -> Supervisor:
        """Starts a supervisor.

        Raises:
            OSError: it cannot be started.
        """
        stderr_tail = StderrTail()
        outputs = [Output(1), Output(2)] if counts_output else []
        streams: dict[str, Any] = {}
        if outputs:
            streams = {"stdout": outputs[0].write_end, "stderr": outputs[1].write_end}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", supervisor_main.__file__, str(stderr_tail.write_end)),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(stderr_tail.write_end,),
                env=without_credential(os.environ),
                **streams,
            )
        except BaseException:
            stderr_tail.close()
            raise
        finally:
            for output in outputs:
                output.started()
        return cls(process, stderr_tail, outputs)

    @property
    def pid(self) -> int:
        """The supervisor's; the command's is that of its only child."""
        return self._process.pid

    def start(self, command: Sequence[str], grace_s: float, env: Mapping[str, str], directory: str = "") -> None:
        """Has the supervisor start the command.

        Args:
            command: the program and its arguments.
            grace_s: seconds between SIGTERM and SIGKILL.
            env: its environment.
            directory: where it starts; "" is the current directory.
        """
        self._env, self._grace_s = env, grace_s
        order = {"command": list(command), "grace_s": grace_s, "env": dict(env), "directory": directory or None}
        self._tell(json.dumps(order).encode() + b"\n")

    def ask(self) -> None:
        """Asks the command to end, without a time limit."""
        self._tell(supervisor_main.ASK)

    def hurry(self) -> None:
        """Kills the command, instead of waiting for it to end."""
        self._tell(supervisor_main.KILL)

    async def end(self) -> int:
        """Ends the command, with SIGTERM first; returns its exit code."""
        self._tell(supervisor_main.TERMINATE)
        await asyncio.wait({self.ended}, timeout=self._grace_s + _KILL_MARGIN_S)
        if not self.ended.done():
            self._process.kill()  # the supervisor itself; the kernel kills the command with it
            await asyncio.wait({self.ended})
        return self.ended.result()

    def last_line(self) -> str:
        """The last line that the command wrote to standard error, once it has ended; "" if there was none."""
        return self._stderr_tail.line(self._env)

    def close(self) -> None:
        """Closes the pipe for the last line, if that is not wanted. A second call does nothing."""
        self._stderr_tail.close()

    async def dismiss(self) -> None:
        """Ends a supervisor that has not been given a command."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.wait({self.ended}, timeout=_SPARE_ENDS_S)
        if not self.ended.done():
            self._process.kill()
        await self.ended
        self.close()

    def _tell(self, order: bytes) -> None:
        if self._process.stdin is not None and not self.ended.done():
            self._process.stdin.write(order)


class SupervisorPool:
    """Gives out supervisors, and keeps one ready."""

    def __init__(self, *, counts_output: bool = False) -> None:
        self._counts_output = counts_output
        self._spare: asyncio.Task[Supervisor] | None = None

    def prepare(self) -> None:
        """Starts a spare one, if there is none."""
        if self._spare is None:
            self._spare = tasks.start(Supervisor.spawn(counts_output=self._counts_output))

    async def take(self) -> Supervisor:
        """The one that is ready, or a new one.

        Raises:
            OSError: it cannot be started.
        """
        spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(OSError):
                supervisor = await spare
                if not supervisor.ended.done():  # it may have been killed
                    return supervisor
                supervisor.close()
        return await Supervisor.spawn(counts_output=self._counts_output)

    async def close(self) -> None:
        """Ends the one that is ready."""
        spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(OSError):
                await (await spare).dismiss()


def without_credential(env: Mapping[str, str]) -> dict[str, str]:
    """All variables but the worker's own secret: a consumer releases without any."""
    return {name: value for name, value in env.items() if name != "MASTER_TOKEN"}
