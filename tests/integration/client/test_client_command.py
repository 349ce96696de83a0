"""``nullworker reserve`` as people run it, in both its forms: a process, its flags, its signals, its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.client_stubs import API_KEY
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.kit.client_stubs import RoutingEngine, StubWorker

FORMS = {
    "module": ("-m", "workers.null.client"),
    "nullworker reserve": ("-m", "nullworker.cli.main", "reserve"),
}
#: What a real engine says to each flag and mistake is shown in tests/integration/engine/test_client_flags.py as well.
each_engine = pytest.mark.parametrize(
    "engine", ["stub", pytest.param("nullworker engine", marks=pytest.mark.long)], indirect=True
)


@dataclass
class Command:
    """A command that is started once, in a home of its own."""

    home: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self, *flags: str, key: str, form: str = "module") -> None:
        """Starts it with ``flags``; ``key`` is what it finds in VAST_API_KEY."""
        environment = {**os.environ, "VAST_API_KEY": key, "HOME": str(self.home)}
        environment.pop("NULLWORKER_STATE", None)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *FORMS[form],
            *flags,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *flags: str, key: str, form: str = "module") -> tuple[int, str, str]:
        """Runs it to its end; returns its exit code, output and complaints."""
        await self.start(*flags, form=form, key=key)
        return await self.end()

    async def event(self, name: str) -> dict[str, Any]:
        """Waits for an event of that name."""
        assert self.process is not None
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError(f"ended without {name}")

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def end(self) -> tuple[int, str, str]:
        """Waits for its end."""
        assert self.process is not None
        output, complaints = await asyncio.wait_for(self.process.communicate(), HANG_S)
        assert self.process.returncode is not None
        return self.process.returncode, output.decode(), complaints.decode()


@pytest.fixture
async def command(tmp_path: Path) -> AsyncIterator[Command]:
    """The command, ended with the test."""
    command = Command(tmp_path)
    yield command
    if command.process is not None and command.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            command.process.kill()
        await command.process.communicate()


def events(output: str) -> list[dict[str, Any]]:
    """The events that were printed."""
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize(
    ("engine", "form"),
    [
        ("stub", "module"),
        ("nullworker engine", "nullworker reserve"),
        pytest.param("stub", "nullworker reserve", marks=pytest.mark.long),
        pytest.param("nullworker engine", "module", marks=pytest.mark.long),
    ],
    indirect=["engine"],
)
async def test_reservations_are_held_side_by_side_for_as_long_as_asked(
    engine_url: str, api_key: str, endpoint_name: str, command: Command, form: str
) -> None:
    """--count, --hold and --interval: three start a bit apart, are held together, and are all released."""
    code, output, complaints = await command.run(
        *("--endpoint", endpoint_name, "--instance", engine_url),
        *("--count", "3", "--hold", "8", "--interval", "0.6", "--json"),
        key=api_key,
        form=form,
    )
    assert (code, complaints) == (0, "")
    told = events(output)
    by_event = {name: [event for event in told if event["event"] == name] for name in ("asking", "held", "released")}
    assert {name: len(found) for name, found in by_event.items()} == {"asking": 3, "held": 3, "released": 3}
    assert len({event["worker"] for event in by_event["held"]}) == 3
    asked_s = sorted(event["elapsed_s"] for event in by_event["asking"])
    assert [at_s >= number * 0.6 for number, at_s in enumerate(asked_s)] == [True, True, True]
    assert all(event["held_s"] >= 2.49 for event in by_event["released"])
    assert max(event["elapsed_s"] for event in by_event["held"]) < min(e["elapsed_s"] for e in by_event["released"])
    assert all(event["waited_s"] >= 0 for event in by_event["held"])


@each_engine
async def test_without_json_it_prints_a_line_with_the_time_for_each_event(
    engine_url: str, api_key: str, endpoint_name: str, command: Command
) -> None:
    """What a person reads."""
    code, output, complaints = await command.run(
        "--endpoint", endpoint_name, "--instance", engine_url, "--hold", "0", "--cost", "50", key=api_key
    )
    assert (code, complaints) == (0, "")
    asking, held, released = output.splitlines()
    assert f"asking for a worker of {endpoint_name}" in asking
    assert "1/1  held after " in held
    assert re.search(r"released after \d+\.\d s$", released)


@each_engine
async def test_ctrl_c_gives_all_back(engine_url: str, api_key: str, endpoint_name: str, command: Command) -> None:
    """One interrupt ends the holds, not the releases; the exit code says that it was interrupted."""
    await command.start(
        *("--endpoint", endpoint_name, "--instance", engine_url),
        *("--count", "2", "--interval", "0", "--hold", "100", "--json"),
        key=api_key,
    )
    await command.event("held")
    await command.event("held")
    command.signal(signal.SIGINT)
    code, output, complaints = await command.end()
    assert code == 130
    assert [event["event"] for event in events(output)] == ["released", "released"]
    assert complaints.splitlines() == ["giving back 2 (once more: exit at once, and leave them to run out)"]


@each_engine
async def test_an_unknown_endpoint_is_one_sentence_and_exit_code_1(
    engine_url: str, api_key: str, endpoint_name: str, command: Command
) -> None:
    """Said once, though three were asked for, and without a traceback."""
    code, _, complaints = await command.run(
        "--endpoint", "none-such", "--instance", engine_url, "--count", "3", "--interval", "0", key=api_key
    )
    assert code == 1
    assert len(complaints.splitlines()) == 1
    assert complaints.startswith("error: The engine at http")
    assert endpoint_name in complaints


@each_engine
async def test_a_wrong_key_is_one_sentence_and_exit_code_1(
    engine_url: str, endpoint_name: str, command: Command
) -> None:
    """And says where the key comes from."""
    code, _, complaints = await command.run("--endpoint", endpoint_name, "--instance", engine_url, key="wrong")
    assert code == 1
    assert len(complaints.splitlines()) == 1
    assert "VAST_API_KEY" in complaints


@pytest.mark.parametrize("form", FORMS)
async def test_an_engine_that_is_not_there_is_one_sentence_and_exit_code_1(
    stub_engine: RoutingEngine, command: Command, form: str
) -> None:
    """At once, not after a time-out."""
    await stub_engine.stop()
    code, _, complaints = await command.run("--endpoint", "any", "--instance", stub_engine.url, key=API_KEY, form=form)
    assert code == 1
    assert complaints == (
        f"error: The engine at {stub_engine.url} does not answer (connection refused): "
        "start it, or correct its address.\n"
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("flags", [(), ("--endpoint", "x", "--count", "0")])
async def test_wrong_flags_exit_with_2(command: Command, form: str, flags: tuple[str, ...]) -> None:
    """Nothing is asked, and the flag is named; each wrong value has its case among the unit tests."""
    code, output, complaints = await command.run(*flags, key=API_KEY, form=form)
    assert code == 2
    assert not output
    assert ("--count" if flags else "--endpoint") in complaints


class TestStub:
    """What needs an engine and workers that do as they are told."""

    async def test_a_second_ctrl_c_exits_at_once(
        self, stub_url: str, stub_workers: list[StubWorker], command: Command
    ) -> None:
        """Although the worker does not answer to the release."""
        await command.start("--endpoint", "null-test", "--instance", stub_url, "--json", key=API_KEY)
        await command.event("held")
        for worker in stub_workers:
            worker.statuses.extend([503] * 100)
        command.signal(signal.SIGINT)
        assert command.process is not None
        assert command.process.stderr is not None
        assert b"giving back 1" in await command.process.stderr.readline()
        command.signal(signal.SIGINT)
        code, output, complaints = await command.end()
        assert code == 130
        assert events(output) == [], "it did not stay to tell how the release went"
        assert "Traceback" not in complaints

    async def test_ctrl_c_while_waiting_leaves_no_waiter(self, stub_engine: RoutingEngine, command: Command) -> None:
        """There is nothing to give back, and nothing is waited for."""
        await command.start("--endpoint", "null-test", "--instance", stub_engine.url, key=API_KEY)
        await stub_engine.wait_until(lambda: stub_engine.waiting == 1)
        command.signal(signal.SIGINT)
        code, _, _ = await command.end()
        assert code == 130
        await stub_engine.wait_until(lambda: stub_engine.waiting == 0)

    async def test_a_deadline_without_a_worker_is_one_sentence_and_exit_code_1(
        self, stub_engine: RoutingEngine, command: Command
    ) -> None:
        """--deadline."""
        code, output, complaints = await command.run(
            *("--endpoint", "null-test", "--instance", stub_engine.url, "--deadline", "0.5", "--json"),
            key=API_KEY,
        )
        assert code == 1
        assert "No worker of 'null-test' became free" in complaints
        assert [event["event"] for event in events(output)] == ["asking", "failed"]

    async def test_the_cost_reaches_the_engine(
        self, stub_url: str, stub_engine: RoutingEngine, command: Command
    ) -> None:
        """--cost, and 100 without it."""
        for flags in ((), ("--cost", "42.5")):
            await command.run("--endpoint", "null-test", "--instance", stub_url, "--hold", "0", *flags, key=API_KEY)
        assert [ask["cost"] for ask in stub_engine.asks] == [100, 42.5]

    async def test_a_lost_worker_is_a_failure_and_the_others_are_held_to_their_end(
        self, stub_url: str, stub_workers: list[StubWorker], command: Command
    ) -> None:
        """One of two workers dies: exit code 1, a sentence, and one orderly release."""
        await command.start(
            *("--endpoint", "null-test", "--instance", stub_url),
            *("--count", "2", "--interval", "0", "--hold", "4", "--json"),
            key=API_KEY,
        )
        await command.event("held")
        await command.event("held")
        await stub_workers[0].stop()
        code, output, complaints = await command.end()
        assert code == 1
        assert sorted(event["event"] for event in events(output)) == ["ended", "failed", "released"]
        assert "its worker is gone" in complaints

    async def test_an_end_by_the_worker_is_no_failure(
        self, stub_url: str, stub_workers: list[StubWorker], command: Command
    ) -> None:
        """A consumer that has done its work lets go before the time."""
        await command.start("--endpoint", "null-test", "--instance", stub_url, "--hold", "100", "--json", key=API_KEY)
        await command.event("held")
        for worker in stub_workers:
            worker.drop()
        code, output, _ = await command.end()
        assert code == 0
        assert [event["event"] for event in events(output)] == ["ended"]
