"""The dispatcher: from a message in the queue to the consumer's first instruction, and what following 100 queues costs.

Everything is real: a redis-server, an engine process, a null worker, ``nullworker dispatch``, and a consumer in bash.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import redis

from nullworker.cli.errors import UserError
from nullworker.client import NullClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PUSHED_ROUNDS = 60
POLLED_ROUNDS = 20
POLL_S = 1.0
#: Between two messages, so that the worker is free again, and at no fixed moment of the poll.
PAUSE_S = (0.3, 0.3 + POLL_S)
QUEUES, MESSAGES = 100, 10_000
MEASURED_S = 30.0
ZERO_ROUNDS = 5
IDLE_S = 2
HANG_S = 60.0

#: Writes down when it begins, then takes a job and is done with it.
CONSUMER = """
echo "$EPOCHREALTIME" >> {notes}
exec 3<>/dev/tcp/127.0.0.1/{port}
printf 'LMOVE jobs processing LEFT RIGHT\\r\\nDEL processing\\r\\nQUIT\\r\\n' >&3
cat <&3 > /dev/null
"""
ENGINE = """
[[endpoint]]
name = "bench"
min_load = {min_load}
inactivity_timeout = {idle_s}
target_util = 1.0
cold_workers = 0
max_workers = {workers}
[[endpoint.workergroup]]
consumer = "bash {consumer}"
"""


@contextlib.contextmanager
def process(*command: str, said: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process, until the end of the block; what it says goes to the file ``said``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NULLWORKER_", "VAST_"))}
    with said.open("wb") as out:
        started = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, env={**kept, **environment})
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(HANG_S)
        finally:
            started.kill()


@contextlib.contextmanager
def redis_server(folder: Path, *, notifies: bool) -> Iterator[redis.Redis]:
    program = shutil.which("redis-server")
    if program is None:
        raise UserError("There is no redis-server to measure with; install Debian's package redis-server.")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ["--save", "", "--notify-keyspace-events", "KA" if notifies else ""]
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), *settings]
    with process(*command, said=folder / "redis.out"), redis.Redis(port=port) as client:
        until(lambda: answers(client))
        yield client


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def port_of(client: redis.Redis) -> int:
    return int(client.connection_pool.connection_kwargs["port"])


def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + HANG_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise UserError(f"The benchmark waited {HANG_S:g} s for something that did not come about.")
        time.sleep(0.005)


@dataclass(frozen=True)
class Engine:
    url: str
    key: str


@contextlib.contextmanager
def engine(folder: Path, consumer: Path | str, workers: int, *, min_load: int = 100) -> Iterator[Engine]:
    config = folder / "nullworker.toml"
    config.write_text(ENGINE.format(consumer=consumer, workers=workers, min_load=min_load, idle_s=IDLE_S))
    flags = ["--config", str(config), "--port", "0", "--state", str(folder / "engine"), "--log-level", "warning"]
    out = folder / "engine.out"
    with process(sys.executable, "-m", "nullworker.cli.main", "engine", "--end-workers", "--json", *flags, said=out):
        until(lambda: "\n" in out.read_text())
        said = json.loads(out.read_text().splitlines()[0])
        yield Engine(said["url"], Path(said["api_key_file"]).read_text().strip())


@contextlib.contextmanager
def dispatcher(folder: Path, served: Engine, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "nullworker.cli.main", "dispatch", "--json", "--state", str(folder / "dispatch")]
    out = folder / "dispatch.out"
    with process(*command, "--instance", served.url, *flags, said=out, VAST_API_KEY=served.key) as started:
        yield started


# --------------------------------------------------------------------------------------------------- first instruction


def delays_s(rounds: int, *, notifies: bool) -> list[float]:
    """From a message's being in the queue to the first instruction of the consumer that takes it, on a warm worker."""
    with TemporaryDirectory(prefix="nullworker-bench-") as scratch:
        folder = Path(scratch)
        notes, consumer = folder / "notes", folder / "consumer.sh"
        notes.touch()
        with redis_server(folder, notifies=notifies) as client:
            consumer.write_text(CONSUMER.format(notes=notes, port=port_of(client)))
            queue = f"redis-list://127.0.0.1:{port_of(client)}/0?key=jobs&processing=processing"
            flags = ("--endpoint", "bench", "--queue", queue, "--max", "1", "--poll", f"{POLL_S:g}")
            with engine(folder, consumer, 1) as served, dispatcher(folder, served, *flags):
                return [_delay_s(client, notes, number) for number in range(rounds + 1)][
                    1:
                ]  # the first starts a worker


def _delay_s(client: redis.Redis, notes: Path, before: int) -> float:
    time.sleep(random.uniform(*PAUSE_S))
    enqueued_at = time.time()  # noqa: TID251 - the consumer's clock
    client.rpush("jobs", "job")
    until(lambda: notes.read_text().count("\n") > before)
    return float(notes.read_text().splitlines()[before]) - enqueued_at


def pushed() -> dict[str, Any]:
    """Where the broker tells of changes: a Redis list with keyspace notifications."""
    delays = delays_s(PUSHED_ROUNDS, notifies=True)
    p50 = statistics.median(delays)
    return {
        "name": "from enqueue to the consumer's first instruction, Redis list that notifies",
        "p50_ms": p50 * 1000,
        "p95_ms": statistics.quantiles(delays, n=20)[18] * 1000,
        "wanted": "p50 at most 50 ms",
        "met": p50 <= 0.050,
        "rounds": PUSHED_ROUNDS,
    }


def polled() -> dict[str, Any]:
    """Where nothing tells of changes: the same list, looked at once a second."""
    delays = delays_s(POLLED_ROUNDS, notifies=False)
    p50 = statistics.median(delays)
    return {
        "name": f"the same where nothing tells of changes, one poll every {POLL_S:g} s",
        "p50_ms": p50 * 1000,
        "most_ms": max(delays) * 1000,
        "wanted": "p50 at most one poll",
        "met": p50 <= POLL_S,
        "rounds": POLLED_ROUNDS,
    }


# --------------------------------------------------------------------------------------------------------- back to zero


def back_to_zero() -> dict[str, Any]:
    """From the end of a queue's last job until there is no worker, not even one that is being stopped."""
    took = _back_to_zero_s()
    return {
        "name": f"from the end of the last job to no worker, inactivity_timeout {IDLE_S} s",
        "p50_s": statistics.median(took),
        "most_s": max(took),
        "wanted": f"at most {IDLE_S + 2} s",
        "met": max(took) <= IDLE_S + 2,
        "rounds": ZERO_ROUNDS,
    }


def _back_to_zero_s() -> list[float]:
    with TemporaryDirectory(prefix="nullworker-bench-") as scratch:
        folder = Path(scratch)
        notes, consumer = folder / "notes", folder / "consumer.sh"
        notes.touch()
        with redis_server(folder, notifies=True) as client:
            consumer.write_text(CONSUMER.format(notes=notes, port=port_of(client)))
            queue = f"redis-list://127.0.0.1:{port_of(client)}/0?key=jobs&processing=processing"
            flags = ("--endpoint", "bench", "--queue", queue, "--max", "4")
            with engine(folder, consumer, 4, min_load=0) as served, dispatcher(folder, served, *flags):
                took = []
                for number in range(1, ZERO_ROUNDS + 1):
                    client.rpush("jobs", *["job"] * 4)
                    until(lambda n=number: notes.read_text().count("\n") >= 4 * n and not client.exists("jobs"))  # type: ignore[misc]
                    ended_at = time.monotonic()
                    until(lambda: not asyncio.run(_workers(served)))
                    took.append(time.monotonic() - ended_at)
                return took


async def _workers(served: Engine) -> int:
    async with NullClient(served.url, served.key) as client:
        return len(await client.workers("bench"))


# ----------------------------------------------------------------------------------------------------- a hundred queues


def hundred_queues() -> dict[str, Any]:
    """One dispatcher follows many long queues, and opens nothing: quiet ones, then with a message a second in each."""
    return _hundred_queues()


def _hundred_queues() -> dict[str, Any]:
    with TemporaryDirectory(prefix="nullworker-bench-") as scratch:
        folder = Path(scratch)
        with redis_server(folder, notifies=True) as client, engine(folder, "none", 0) as served:
            tables = [f'[dispatch]\ninstance = "{served.url}"\n']
            for number in range(QUEUES):
                client.rpush(f"jobs-{number}", *range(MESSAGES))
                queue = f"redis-list://127.0.0.1:{port_of(client)}/0?key=jobs-{number}&processing=at-{number}"
                tables.append(f'[[dispatch.queue]]\nendpoint = "bench"\nqueue = "{queue}"\nmax = 0\n')
            config = folder / "dispatch.toml"
            config.write_text("\n".join(tables))
            with dispatcher(folder, served, "--config", str(config)) as started:
                said = folder / "dispatch.out"  # how each queue stands, once
                until(lambda: said.read_text().count(f'"waiting": {MESSAGES},') >= QUEUES)
                quiet = _share_of_a_core(started.pid, lambda: None)
                busy = _share_of_a_core(started.pid, lambda: _one_more_in_each(client))
    return {
        "name": f"one dispatcher that follows {QUEUES} queues of {MESSAGES} messages",
        "percent_of_a_core": quiet * 100,
        "percent_at_100_messages_a_second": busy * 100,
        "wanted": "under 20 % of a core",
        "met": max(quiet, busy) < 0.20,
        "seconds": MEASURED_S,
    }


def _one_more_in_each(client: redis.Redis) -> None:
    for number in range(QUEUES):
        client.rpush(f"jobs-{number}", "more")
        time.sleep(0.8 / QUEUES)


def _share_of_a_core(pid: int, each_second: Callable[[], None]) -> float:
    """Processor time over time that passes."""
    began, used = time.monotonic(), _cpu_s(pid)
    second = 0
    while (now := time.monotonic()) < began + MEASURED_S:
        if now >= began + second:
            second += 1
            each_second()
        time.sleep(0.02)
    return (_cpu_s(pid) - used) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


BENCHMARKS = {
    "enqueue": pushed,
    "enqueue-polled": polled,
    "back-to-zero": back_to_zero,
    "hundred-queues": hundred_queues,
}
