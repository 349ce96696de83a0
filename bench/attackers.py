"""What an attacker at full speed costs an honest caller: its reservations, with and without the attack, in turns.

The attacker is a process of its own with one address, 127.0.0.2, that shares the caller's core and gives it way; the
engine has the other. In the turns without an attack that process is as busy, with nothing. The caller asks for a worker
and gives it back a hundred times a second, every tenth time on a new connection. A call that is refused, or that fails,
ends the benchmark.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.http import LOAD_CORE, Load, engine_with_workers, pin, report
from bench.load import FIRST_PORT, request

_ROOT = Path(__file__).resolve().parents[1]
WORKERS = 100
ROUNDS = 4
TURN_S = 2.0
CALLS_PER_S = 100.0
NEW_CONNECTION_EVERY = 10
WANTED = 2.0
ADDRESS = "127.0.0.2"
TASKS = 32
OPEN_MAX = 3_000
#: What is sent on each connection: it is closed at once, or stays open.
ATTACKS: dict[str, tuple[bytes, bool]] = {
    "wrong keys": (request("x", "/route/", '{"endpoint": "null-local", "cost": 1, "api_key": "wrong"}'), False),
    "long bodies": (request("x", "/worker_status/", '{"id": 1, "mtoken": "' + "x" * 60_000 + '"}'), False),
    "open connections": (b"", True),
    "half a body": (b"POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{", True),
}
#: The attacker's process takes as much of the caller's core and does nothing to the engine.
NO_ATTACK = "none"


class Caller:
    """An honest client, and the workers that it is given."""

    def __init__(self, url: str, endpoint: str, api_key: str, tokens: list[str]) -> None:
        self._where = urlsplit(url)
        self._ask = {"endpoint": endpoint, "api_key": api_key, "cost": 100, "request_idx": 0}
        self._tokens = tokens
        self._http = self._connection()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._where.hostname or "", self._where.port, timeout=10)

    def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._http.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self._http.getresponse()
        text = answer.read()
        assert answer.status == http.client.OK, (answer.status, text)
        found: dict[str, Any] = json.loads(text)
        return found

    def turn(self) -> list[float]:
        """What the calls of one turn took, in milliseconds."""
        took_ms = []
        began = time.perf_counter()
        for number in range(int(TURN_S * CALLS_PER_S)):
            time.sleep(max(0.0, began + number / CALLS_PER_S - time.perf_counter()))
            asked = time.perf_counter()
            if number % NEW_CONNECTION_EVERY == 0:
                self._http.close()
                self._http = self._connection()
            granted = self._call("/route/", self._ask)
            took_ms.append(1000 * (time.perf_counter() - asked))
            worker_id = int(granted["url"].rpartition(":")[2]) - FIRST_PORT
            over = {"request_idx": granted["request_idx"], "success": True, "status": "Success"}
            body = {"worker_id": worker_id, "mtoken": self._tokens[worker_id - 1], "requests": [over]}
            self._call("/delete_requests/", body)
        return took_ms


@contextlib.contextmanager
def attacked(url: str, kind: str) -> Any:
    """While this lasts, an attacker is at it; yields how many connections it has had, once that is over."""
    command = [sys.executable, "-m", "bench.attackers", url, kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    pin(process.pid, LOAD_CORE)
    made: list[int] = []
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield made
    finally:
        out, _ = process.communicate("")  # the end of its standard input is its sign to end
        made.append(int(out or 0))


def attackers() -> dict[str, Any]:
    """The p99 of an honest route beside each attack, as a multiple of the p99 without."""
    found: dict[str, Any] = {}
    pin(os.getpid(), LOAD_CORE)
    try:
        with contextlib.ExitStack() as stack:
            engine, tokens = stack.enter_context(engine_with_workers(WORKERS))
            requests = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
            caller = Caller(engine.url, engine.endpoint, engine.api_key, tokens)
            reports = stack.enter_context(contextlib.closing(Load(engine.url, engine.pid, reports=requests)))
            reports.turn(2.0)  # all are heard of
            caller.turn()
            for kind in ATTACKS:
                quiet: list[float] = []
                beside: list[float] = []
                made = 0
                for _ in range(ROUNDS):
                    reports.turn(0.3, 2)  # so that none is taken for dead
                    with attacked(engine.url, NO_ATTACK):
                        quiet += caller.turn()
                    with attacked(engine.url, kind) as count:
                        began = time.perf_counter()
                        beside += caller.turn()
                        took_s = time.perf_counter() - began
                    made += count[0]
                found[kind] = {
                    "quiet_p99_ms": _p99(quiet),
                    "attacked_p99_ms": _p99(beside),
                    "ratio": _p99(beside) / _p99(quiet),
                    "attacker_connections_per_s": made / ROUNDS / took_s,
                }
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return {
        "name": "an honest route beside one attacker's address at full speed",
        **{f"{kind} {what}": value for kind, each in found.items() for what, value in each.items()},
        "refused_calls": 0,  # one would have ended the benchmark
        "wanted": f"the p99 less than {WANTED:g} times what it is without, and no call refused",
        "met": all(each["ratio"] < WANTED for each in found.values()),
        "calls_of_each_kind": 2 * ROUNDS * int(TURN_S * CALLS_PER_S),
    }


def _p99(took_ms: list[float]) -> float:
    return sorted(took_ms)[len(took_ms) * 99 // 100]


# ---------------------------------------------------------------------------------------------------- the other process


async def _attack(host: str, port: int, kind: str) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(0, ended.set)
    if kind == NO_ATTACK:
        while not ended.is_set():  # noqa: ASYNC110 - to be busy is what it is for
            await asyncio.sleep(0)
        return 0
    sent, stays = ATTACKS[kind]
    writers: list[asyncio.StreamWriter] = []
    made = 0

    async def flood() -> None:
        nonlocal made
        while not ended.is_set():
            try:
                _, writer = await asyncio.open_connection(host, port, local_addr=(ADDRESS, 0))
            except OSError:
                await asyncio.sleep(0.01)
                continue
            made += 1
            writer.write(sent)
            if stays:
                writers.append(writer)
                if len(writers) > OPEN_MAX:
                    writers.pop(0).close()
            else:
                with contextlib.suppress(OSError):
                    await writer.drain()
                writer.close()

    await asyncio.wait([asyncio.ensure_future(flood()) for _ in range(TASKS)])
    for writer in writers:
        writer.transport.abort()
    return made


def main() -> None:
    """Attacks until its standard input ends."""
    os.nice(10)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    url, kind = sys.argv[1:]
    where = urlsplit(url)
    print("begun", flush=True)
    print(asyncio.run(_attack(where.hostname or "", where.port or 0, kind)), flush=True)


BENCHMARKS = {"attackers": attackers}

if __name__ == "__main__":
    main()
