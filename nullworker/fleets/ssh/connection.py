"""One SSH connection to a host's agent, made again when it breaks; and why there is none, in a sentence.

The program ``ssh`` makes it, so that names, keys, jump hosts and the check of the host's key are those that the user's
own ``ssh`` has. It never asks: a login that would need a password fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.fleets.base import FleetError, ShortageError
from nullworker.fleets.ssh import bootstrap
from nullworker.wire import tasks
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.fleets.bundle import Bundle
    from nullworker.fleets.ssh.settings import HostSettings, SshSettings

log = logging.getLogger(__name__)

#: The first pause before a connection is made again, then twice as long each time, at most the second.
RETRY_S, RETRY_MAX_S = 1.0, 30.0
#: From the start of ``ssh`` to the agent's first word; longer while it installs what workers need.
CONNECT_S, INSTALL_S = 60.0, 1800.0
#: A verb may take so long; the end of a stubborn worker takes its grace and ten seconds.
VERB_S = 300.0
END_S = 5.0
LINE_BYTES_MAX = 64 << 20
#: Reads the bootstrap's source and runs it. Quoted once for the login shell, whichever that is.
LOADER = "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"

#: What ``ssh`` says, and what that means for a user.
_MEANINGS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its key has changed: is it another machine? If it was set up again, ssh-keygen -R '{key}', then {login}",
    ),
    ("Host key verification failed", "its key is not known; log in once with {login} and accept it"),
    ("Permission denied", "it refuses the login; let {login} work without a password, with a key or an agent"),
    ("Could not resolve hostname", "its name is not known"),
)


class NotConnectedError(FleetError):
    """The host does not answer now."""


def ssh_command(settings: SshSettings, host: HostSettings) -> list[str]:
    """The command that runs the agent on a host.

    Args:
        settings: of the fleet.
        host: the host.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": str(max(3, min(settings.silence_s, 30))),
        "ServerAliveInterval": str(max(1, settings.silence_s // 3)),
        "ServerAliveCountMax": "3",
        "StrictHostKeyChecking": "yes",
        "ControlMaster": "no",
        "ControlPath": "none",
    }
    if settings.known_hosts:
        options["UserKnownHostsFile"] = settings.known_hosts
    command = ["ssh", "-T"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    command += ["-F", settings.ssh_config] if settings.ssh_config else []
    command += ["-i", settings.identity] if settings.identity else []
    command += ["-p", str(host.port)] if host.port else []
    return [*command, "--", host.host, f"exec {settings.python} -c '{LOADER}'"]


class Connection:
    """The connection to one host."""

    def __init__(
        self,
        host: HostSettings,
        command: list[str],
        order: dict[str, Any],
        bundle: Bundle,
        on_change: Callable[[Connection], None],
        on_exit: Callable[[int, str], None],
    ) -> None:
        """Takes what it uses; `open` begins.

        Args:
            host: its settings.
            command: runs the bootstrap there.
            order: what the bootstrap is told.
            bundle: the code.
            on_change: called when it is connected, or is not any more.
            on_exit: called with a worker's id and how it ended.
        """
        self.name = host.host
        self._host = host
        self._command = command
        self._order = order
        self._bundle = bundle
        self._on_change = on_change
        self._on_exit = on_exit
        #: What the agent said first; None: there is no connection.
        self.hello: dict[str, Any] | None = None
        #: Why there is no connection, as the end of a sentence.
        self.why = "it was not reached yet"
        self._tried = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._running: asyncio.Task[None] | None = None
        self._is_closing = False

    async def open(self, wait_s: float) -> None:
        """Begins to connect; returns when that was done or has failed once, or after ``wait_s`` seconds."""
        self._running = tasks.start(self._run())
        with contextlib.suppress(asyncio.TimeoutError):
            await within(self._tried.wait(), wait_s)

    async def call(self, verb: str, *, limit_s: float = VERB_S, **arguments: object) -> Any:
        """Has the agent carry out a verb.

        Args:
            verb: create, start, stop, destroy, list, read_log or end.
            limit_s: how long it may take.
            arguments: of the verb.

        Raises:
            NotConnectedError: there is no connection, or it broke before the answer came.
            FleetError: the verb failed.
        """
        process = self._process
        if self.hello is None or process is None or process.stdin is None:
            raise NotConnectedError(self.down_sentence())
        self._next += 1
        number = self._next
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(msgspec.json.encode({"id": number, "verb": verb, **arguments}) + b"\n")
            said: dict[str, Any] = await within(answer, limit_s)
        except asyncio.TimeoutError:
            raise NotConnectedError(
                f"Host {self.name} has not said for {limit_s:g} s whether it did {verb}.", definite=False
            ) from None
        finally:
            self._answers.pop(number, None)
        if "error" not in said:
            return said["result"]
        if said.get("shortage"):
            raise ShortageError(said["error"])
        raise FleetError(said["error"], definite=said["definite"])

    def down_sentence(self) -> str:
        """That there is no connection, and why."""
        return f"Host {self.name} does not answer: {self.why}."

    async def close(self) -> None:
        """Ends the connection; workers go on."""
        self._is_closing = True
        process, running = self._process, self._running
        if process is not None and process.stdin is not None:
            process.stdin.close()  # the agent ends, and with it ssh
        if running is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                await within(asyncio.shield(running), 2 * END_S)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    # ------------------------------------------------------------------------------------------------- the connection

    async def _run(self) -> None:
        pause_s = RETRY_S
        while not self._is_closing:
            try:
                was_up = await self._once()
            except Exception as error:
                log.exception("the connection to host %s failed", self.name)
                self.why, was_up = tasks.failed("The connection", error).rstrip("."), False
            self._tried.set()
            if self._is_closing:
                return
            pause_s = RETRY_S if was_up else min(RETRY_MAX_S, 2 * pause_s)
            await asyncio.sleep(pause_s)

    async def _once(self) -> bool:
        """One connection from its beginning to its end; returns whether there was one."""
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # a Ctrl-C at the engine's terminal is the engine's
        )
        stderr: deque[str] = deque(maxlen=20)
        reading = tasks.start(self._read_stderr(process, stderr))
        failed = ""
        try:
            failed = await self._converse(process)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except asyncio.TimeoutError:
            failed = "it has not answered in time"
        finally:
            code = await _ended(process)
            await asyncio.gather(reading, return_exceptions=True)
            was_up, self.hello, self._process = self.hello is not None, None, None
            self.why = failed or self._meaning(code, stderr, was_up=was_up)
            self._lose_answers()
            if not self._is_closing and (was_up or not self._tried.is_set()):
                self._on_change(self)
        return was_up

    async def _converse(self, process: asyncio.subprocess.Process) -> str:
        """Brings the agent up and takes what it says, until the connection ends; returns why, if that is known."""
        assert process.stdin is not None
        assert process.stdout is not None
        source = inspect.getsource(bootstrap).encode()
        process.stdin.write(b"%d\n" % len(source) + source + json.dumps(self._order).encode() + b"\n")
        limit_s = CONNECT_S
        while line := await within(process.stdout.readline(), None if self.hello else limit_s):
            if not line.startswith(b"nullworker "):
                continue  # a login shell greets
            _, word, content = line.decode(errors="replace").rstrip("\n").split(" ", 2)
            if word == "need":
                process.stdin.write(self._bundle.content)
            elif word == "installing":
                log.warning("host %s has not what workers need: it is installed there", self.name)
                self.why, limit_s = "what workers need is being installed on it", INSTALL_S
                self._tried.set()
            elif word == "failed":
                return content.rstrip(".")
            elif word == "hello":
                self.hello = msgspec.json.decode(content)
                self._on_change(self)
                self._tried.set()
            elif word == "answer":
                said = msgspec.json.decode(content)
                answer = self._answers.get(said["id"])
                if answer is not None and not answer.done():
                    answer.set_result(said)
            elif word == "exited":
                exited = msgspec.json.decode(content)
                self._on_exit(exited["worker_id"], exited["detail"])
        return ""

    @staticmethod
    async def _read_stderr(process: asyncio.subprocess.Process, lines: deque[str]) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            lines.append(line.decode(errors="replace").strip())

    def _lose_answers(self) -> None:
        for answer in self._answers.values():
            if not answer.done():
                error = NotConnectedError(f"The connection to host {self.name} broke ({self.why}).", definite=False)
                answer.set_exception(error)

    def _meaning(self, code: int, stderr: deque[str], *, was_up: bool) -> str:
        """Why a connection ended, as the end of a sentence."""
        said = "\n".join(stderr)
        for text, meaning in _MEANINGS:
            if text in said:
                host, port = self.name.rpartition("@")[2], self._host.port
                key = f"[{host}]:{port}" if port else host
                return meaning.format(key=key, login=f"ssh -p {port} {self.name}" if port else f"ssh {self.name}")
        if code == 127 and not was_up:
            python = self._order["python"]
            return f"there is no program {python} on it; install Python, or name it by python of [fleet.ssh]"
        last = next((line for line in reversed(stderr) if line), "")
        return (last[:200].rstrip(".") or f"ssh ended with code {code}") + ("; connecting again" if was_up else "")


async def _ended(process: asyncio.subprocess.Process) -> int:
    """The exit code of a process that is to end; it is ended where it does not by itself."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        return await within(process.wait(), END_S)
    except asyncio.TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()
