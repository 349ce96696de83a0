"""Machines for the SSH fleet: real sshd's on other loopback addresses, each with a home directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from nullworker.fleets.base import FleetError, InstanceSpec
from nullworker.fleets.processes import proc
from nullworker.fleets.ssh import SshFleet
from nullworker.testing.fleets import PlaceFaults
from tests.integration.process_fleets import make_workers
from tests.kit.waiting import until
from tests.ports import free_port
from tools.brokers.needs import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nullworker.fleets.base import Fleet, Notice

MARK = "mark"
SSHD = program("sshd").find()
needs_sshd = pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="there is no sshd (make brokers)")


def make_key(path: Path) -> str:
    """Makes a key without a passphrase; returns its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    kind, key, *_ = path.with_suffix(".pub").read_text().split()
    return f"{kind} {key}"


@dataclass
class Host:
    """One machine: an sshd on an address of its own."""

    address: str
    home: Path
    port: int = 0
    sshd: subprocess.Popen[bytes] | None = None
    prefix: tuple[str, ...] = ()  # of the command, for an sshd in a network namespace

    def __post_init__(self) -> None:
        self.port = free_port() if self.prefix else free_port(self.address)

    def start(self) -> None:
        assert SSHD is not None
        self.home.mkdir(exist_ok=True)
        if not (self.home / "host_key").exists():
            make_key(self.home / "host_key")
        config = self.home / "sshd_config"
        config.write_text(
            f"ListenAddress {self.address}:{self.port}\nHostKey {self.home}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.home.parent}/key.pub\nStrictModes no\nPermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nSetEnv HOME={self.home}\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd of root wants it
        with (self.home / "sshd.log").open("ab") as log:
            self.sshd = subprocess.Popen(
                [*self.prefix, SSHD, "-D", "-e", "-f", config], stderr=log, start_new_session=True
            )

    async def ready(self) -> None:
        async def connects() -> bool:
            try:
                _, writer = await asyncio.open_connection(self.address, self.port)
            except OSError:
                return False
            writer.close()
            return True

        while not await connects():
            assert self.sshd is not None
            assert self.sshd.poll() is None, (self.home / "sshd.log").read_text()
            await asyncio.sleep(0.02)

    @property
    def daemons(self) -> list[psutil.Process]:
        """The sshd and those of its connections, and nothing that was started through them."""
        if self.sshd is None or self.sshd.poll() is not None:
            return []
        parent = psutil.Process(self.sshd.pid)
        return [parent, *(each for each in parent.children(recursive=True) if each.name() == "sshd")]

    @property
    def agents(self) -> list[psutil.Process]:
        """What the fleet runs on it, for each of its connections."""
        return [each for daemon in self.daemons[:1] for each in daemon.children(recursive=True) if is_agent(each)]

    def cut(self) -> None:
        """As if it was switched off from the network: connections break at once, and none is taken."""
        for daemon in self.daemons:
            with contextlib.suppress(psutil.NoSuchProcess):
                daemon.send_signal(signal.SIGKILL)
        if self.sshd is not None:
            self.sshd.wait()

    def hang(self, *, on: bool) -> None:
        """As if its network lost everything: connections stay, and nothing is heard; or the end of that."""
        for daemon in self.daemons:
            daemon.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    @property
    def known(self) -> str:
        """Its line of known_hosts."""
        kind, key, *_ = (self.home / "host_key.pub").read_text().split()
        return f"[{self.address}]:{self.port} {kind} {key}\n"

    def directory(self, worker_id: int, mark: str = MARK) -> Path:
        return self.home / ".nullworker" / "state" / mark / "fleets" / "processes" / mark / str(worker_id)

    def is_there(self, worker_id: int, mark: str = MARK) -> bool:
        """Whether a worker was started on it."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            return self.pid(worker_id, mark) > 0
        return False

    def pid(self, worker_id: int, mark: str = MARK) -> int:
        pid = json.loads((self.directory(worker_id, mark) / "instance.json").read_text())["pid"]
        assert isinstance(pid, int)
        return pid

    def running(self) -> list[int]:
        """The living processes of all instances on it."""
        found = proc.marked_processes(str(self.home.resolve()))
        return sorted(each.process.pid for processes in found.values() for each in processes)


def is_agent(process: psutil.Process, home: str = "") -> bool:
    with contextlib.suppress(psutil.Error):
        words = " ".join(process.cmdline())  # a zombie has none
        return "import sys; sys.path.insert" in words and "fleets.ssh.agent" in words and home in words
    return False


@dataclass
class Boxes:
    """The hosts of a test, and the fleets that it opened."""

    path: Path
    hosts: list[Host]
    settings: dict[str, Any]
    report_addr: str
    exits: list[tuple[int, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    fleets: list[SshFleet] = field(default_factory=list)

    async def open(self, mark: str = MARK, **settings: object) -> SshFleet:
        fleet = await SshFleet.open(
            {**self.settings, **settings}, mark, lambda *exited: self.exits.append(exited), self.notices.append
        )
        self.fleets.append(fleet)
        return fleet

    def spec(self, worker_id: int, backend: str = "idle", **changes: Any) -> InstanceSpec:
        fields = {"endpoint": "endpoint", "workergroup_id": 1, "report_addr": self.report_addr, "worker_token": "token"}
        return InstanceSpec(**{"worker_id": worker_id, "backend": backend, **fields, **changes})

    def host_of(self, worker_id: int, mark: str = MARK) -> Host:
        (host,) = [each for each in self.hosts if each.directory(worker_id, mark).exists()]
        return host

    def trust(self) -> None:
        (self.path / "known_hosts").write_text("".join(host.known for host in self.hosts))

    async def about(self, worker_id: int) -> dict[str, Any]:
        """What an ``open_book`` says of itself."""
        path = self.host_of(worker_id).directory(worker_id) / "about.json"
        await until(path.exists)
        read: dict[str, Any] = json.loads(path.read_text())
        return read

    def faults(self) -> PlaceFaults:
        """What `check_fleet` has these hosts do wrong. What an agent is told is done, or its connection breaks."""

        @contextlib.asynccontextmanager
        async def lost_answer(fleet: Fleet, mark: str) -> AsyncIterator[None]:
            assert isinstance(fleet, SshFleet)
            creating = asyncio.ensure_future(self._lose_answer(fleet, mark))
            yield
            await creating
            await self.start()

        @contextlib.asynccontextmanager
        async def silence(*_: object) -> AsyncIterator[None]:
            for host in self.hosts:
                host.cut()
            yield
            await self.start()

        def count(mark: str) -> int:
            found = proc.marked_processes(str(self.path.resolve()))
            return sum(f"/processes/{mark}/" in name for name, all_ in found.items() if all_)

        return PlaceFaults(lost_answer, silence, count=count)

    async def _lose_answer(self, fleet: SshFleet, mark: str) -> None:
        """Lets an order through to the agents, and then breaks the connections with the answer still in them."""
        agents = [each for host in self.hosts for each in host.agents]
        for agent in agents:
            agent.suspend()
        await until(lambda: fleet._creating)
        (worker_id,) = fleet._creating
        for host in self.hosts:
            host.hang(on=True)
        for agent in agents:
            agent.resume()
        while not any(host.is_there(worker_id, mark) for host in self.hosts):
            for on in (False, True):  # the order was not through: nothing says when it is
                for host in self.hosts:
                    host.hang(on=on)
                await asyncio.sleep(1.0 if on else 0.1)
        for host in self.hosts:
            host.cut()
        await until(lambda: not any(each.is_running() for each in agents), "they end with their connections")

    async def start(self) -> None:
        """Has all hosts answer."""
        for host in self.hosts:
            host.start()
        for host in self.hosts:
            await host.ready()

    def left(self) -> list[int]:
        return [pid for host in self.hosts for pid in host.running()]


@contextlib.asynccontextmanager
async def boxes_in(path: Path, count: int = 2, given: tuple[Host, ...] = ()) -> AsyncIterator[Boxes]:
    """Hosts of a test's own. Whatever was started on them is ended, and nothing may be left.

    Args:
        path: a directory for them; those that are ``given`` have their homes in ``hosts`` of it.
        count: how many, on loopback addresses.
        given: hosts to use in place of these.
    """
    (path / "hosts").mkdir()
    make_key(path / "hosts" / "key")
    hosts = [*given] or [Host(f"127.0.0.{2 + n}", path / "hosts" / f"box-{n + 1}") for n in range(count)]
    (path / "ssh_config").write_text("")
    settings: dict[str, Any] = {
        "state_dir": path / "state",
        "hosts": [{"host": host.address, "port": host.port, "slots": 20} for host in hosts],
        "python": sys.executable,
        "install": False,
        "workers_path": str(make_workers(path / "root")),
        "identity": path / "hosts" / "key",
        "known_hosts": path / "known_hosts",
        "ssh_config": path / "ssh_config",
        "grace_s": 5.0,
    }
    engine = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    boxes = Boxes(path, hosts, settings, f"http://127.0.0.1:{engine.sockets[0].getsockname()[1]}")
    try:
        await boxes.start()
        boxes.trust()
        yield boxes
    finally:
        with _all_of(hosts):
            for fleet in boxes.fleets:
                with contextlib.suppress(FleetError):
                    await fleet.close()
            left = boxes.left()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        engine.close()
    await until(lambda: boxes.left() == [])


@contextlib.contextmanager
def _all_of(hosts: list[Host]) -> Iterator[None]:
    try:
        yield
    finally:
        for host in hosts:
            host.hang(on=False)
            host.cut()


def ip(*words: str) -> None:
    """Runs ``ip`` of iproute2."""
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def behind_a_link(name: str) -> Iterator[tuple[str, str, str]]:
    """A network namespace behind a link of its own, which can be cut: ``ip link set NAME down``. Root alone may.

    Yields:
        The namespace's name, the address on this side and the one on the other.
    """
    near, far = "10.213.77.1", "10.213.77.2"
    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p", "netns", name)
        ip("addr", "add", f"{near}/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", f"{far}/30", "dev", f"{name}p")
        ip("-n", name, "link", "set", f"{name}p", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name, near, far
    finally:
        ip("netns", "del", name)
