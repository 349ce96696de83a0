"""Starts and talks to supervisor processes (`supervisor_main`), each of which runs one command.

A supervisor is started before its command is known, because an interpreter takes tens of milliseconds to start, and a
new reservation should not wait for that: `SupervisorPool` keeps one spare.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import secrets
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.wire import tasks
from nullworker.wire.worker_side import engine_tls
from nullworker.wire.worker_side.run_as import RUN_AS_VARIABLE
from nullworker.worker import supervisor_main
from nullworker.worker.command_processes import Cgroup
from nullworker.worker.idleness import Output
from nullworker.worker.stderr_tail import Report, ReportPipe, last_line

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Sequence
    from typing import Any

    from nullworker.wire.worker_side.run_as import RunAs

SESSION_VARIABLE = "NULL_SESSION_ID"
CONTROL_VARIABLE = "NULL_CONTROL_URL"
# How long a supervisor may take beyond the grace before it is killed itself.
_KILL_MARGIN_S = supervisor_main.KILL_PATIENCE_S + supervisor_main.PASS_ON_S + 2.5
_SPARE_ENDS_S = 5.0
_LAST_OUTPUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Order:
    """A command, and how it is run."""

    command: Sequence[str]
    session_id: str  # of the reservation; the command's processes are found by it
    env: Mapping[str, str]
    directory: str = ""  # where it starts; "" is the current directory
    grace_s: float = 8.0  # between SIGTERM and SIGKILL
    background_s: float | None = None  # how long what it leaves in the background may go on; None: as long as it takes
    run_as: RunAs | None = None  # None: the user of this process
    place: str = ""  # of an earlier worker's commands, which must be gone first: their NULL_CONTROL_URL


class Supervisor:
    """A supervisor process, which waits for its command or runs it; made by `spawn`.

    Args:
        process: the supervisor.
        pipe: to which it writes its report.
        outputs: the command's output, where that is counted.
        cgroup: of the command; removed when nothing of it is left.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, pipe: ReportPipe, outputs: list[Output], cgroup: Cgroup
    ) -> None:
        self.outputs = outputs  # of the command, where they are counted
        #: Done with the exit code when nothing of the command is alive, or what is left of it cannot be ended.
        self.ended: asyncio.Future[int] = tasks.start(self._until_gone())
        self._process = process
        self._pipe = pipe
        self._cgroup = cgroup
        self._order: Order | None = None
        self._report = Report()

    @classmethod
    async def spawn(
        cls,
        *,
        counts_output: bool = False,
        ignored: Sequence[re.Pattern[bytes]] = (),
        cgroup: Cgroup | None = None,
    ) -> Supervisor:
        """Starts a supervisor.

        Args:
            cgroup: of an earlier supervisor, for one that ends what that has left; None: a new one.
            counts_output: whether the command's output is counted.
            ignored: as `Output` takes it.

        Raises:
            OSError: it cannot be started.
        """
        pipe = ReportPipe()
        cgroup = cgroup or Cgroup.named(f"nullworker-{secrets.token_hex(8)}")
        outputs = [Output(1, ignored), Output(2, ignored)] if counts_output else []
        streams: dict[str, Any] = {}
        if outputs:
            streams = {"stdout": outputs[0].write_end, "stderr": outputs[1].write_end}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", supervisor_main.__file__, str(pipe.write_end), cgroup.path),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(pipe.write_end,),
                env=without_reservation(os.environ),
                **streams,
            )
        except BaseException:
            pipe.close()
            raise
        finally:
            for output in outputs:
                output.started()
        return cls(process, pipe, outputs, cgroup)

    @property
    def pid(self) -> int:
        """The supervisor's; the command's is that of its only child."""
        return self._process.pid

    def start(self, order: Order) -> None:
        """Has the supervisor start a command."""
        self._order = order
        self._tell(_as_json(order, list(order.command)))

    def ask(self) -> None:
        """Asks the command to end, without a time limit."""
        self._tell(supervisor_main.ASK)

    def hurry(self) -> None:
        """Kills the command, instead of waiting for it to end."""
        self._tell(supervisor_main.KILL)

    async def end(self) -> int:
        """Ends the command, with SIGTERM first; returns its exit code."""
        self._tell(supervisor_main.TERMINATE)
        grace_s = self._order.grace_s if self._order is not None else 0.0
        await asyncio.wait({self.ended}, timeout=grace_s + _KILL_MARGIN_S)
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()  # the supervisor itself; the kernel kills the command with it
            await asyncio.wait({self.ended})
        return self.ended.result()

    @property
    def left(self) -> tuple[str, ...]:
        """What of the command could not be ended, in words; once `ended` is done."""
        return self._report.left

    @property
    def is_busy(self) -> bool:
        """Whether the command was not started, because another supervisor runs one for the same reservation."""
        return self._report.is_busy

    def last_line(self) -> str:
        """The last line that the command wrote to standard error, once it has ended; "" if there was none."""
        return last_line(self._report.written, self._order.env if self._order is not None else {})

    async def finish_output(self) -> None:
        """Waits until what the command has written is passed on, where that is counted."""
        for output in self.outputs:
            await output.finish(_LAST_OUTPUT_S)

    async def dismiss(self) -> None:
        """Ends a supervisor that has not been given a command."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        await asyncio.wait({self.ended}, timeout=_SPARE_ENDS_S)
        if not self.ended.done():
            self._process.kill()
        await self.ended

    async def _until_gone(self) -> int:
        code = await self._process.wait()
        report = self._pipe.read()
        if report is not None:
            self._report = report
        elif self._order is not None:  # it was killed, and could end nothing
            self._report = Report(left=await self._sweep(self._order))
        self._cgroup.remove()
        return code

    async def _sweep(self, order: Order) -> tuple[str, ...]:
        """Has another supervisor end what this one has left; returns what survived, in words."""
        try:
            other = await Supervisor.spawn(cgroup=self._cgroup)
        except OSError as error:
            return (f"what cannot be looked for ({error.strerror or error})",)
        other._tell(_as_json(order, None))  # noqa: SLF001 - one of our own
        await asyncio.wait({other.ended}, timeout=order.grace_s + 2 * _KILL_MARGIN_S)
        return other.left if other.ended.done() else ("what cannot be looked for",)

    def _tell(self, message: bytes) -> None:
        if self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(message)


def _as_json(order: Order, command: list[str] | None) -> bytes:
    """The line that a supervisor waits for. ``command``: None to end what is left of an earlier one."""
    # A supervisor of this very reservation above us sees to what has its mark.
    is_nested = os.environ.get(SESSION_VARIABLE) == order.session_id
    facts = {
        "command": command,
        "env": dict(order.env),
        "directory": order.directory or None,
        "mark": "" if is_nested else f"{SESSION_VARIABLE}={order.session_id}",
        "place": "" if is_nested or not order.place else f"{CONTROL_VARIABLE}={order.place}",
        "grace_s": order.grace_s,
        "background_s": order.background_s,
        "user": order.run_as and (order.run_as.uid, order.run_as.gid, order.run_as.groups),
    }
    return json.dumps(facts).encode() + b"\n"


class SupervisorPool:
    """Gives out supervisors, and keeps one ready."""

    def __init__(self, *, counts_output: bool = False, ignored: Sequence[re.Pattern[bytes]] = ()) -> None:
        self._spawn = functools.partial(Supervisor.spawn, counts_output=counts_output, ignored=ignored)
        self._spare: asyncio.Task[Supervisor] | None = None

    def prepare(self) -> None:
        """Starts a spare one, if there is none."""
        if self._spare is None:
            self._spare = tasks.start(self._spawn())

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
        return await self._spawn()

    async def close(self) -> None:
        """Ends the one that is ready."""
        spare, self._spare = self._spare, None
        if spare is not None:
            with contextlib.suppress(OSError):
                await (await spare).dismiss()


def without_credential(env: Mapping[str, str]) -> dict[str, str]:
    """All variables but the worker's own secret, user and trust: a consumer releases without them, and has its own."""
    return {
        name: value
        for name, value in engine_tls.without(env).items()
        if name not in ("MASTER_TOKEN", RUN_AS_VARIABLE, *engine_tls.OWN_VARIABLES)
    }


def without_reservation(env: Mapping[str, str]) -> dict[str, str]:
    """As `without_credential`, and without what marks processes of a reservation: a supervisor is none of them."""
    marks = (SESSION_VARIABLE, CONTROL_VARIABLE)
    return {name: value for name, value in without_credential(env).items() if name not in marks}
