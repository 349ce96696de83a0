"""When a command has nothing to do, as far as that can be seen; what cannot be seen counts as work."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from nullworker.worker.idleness import CPU_SHARE, Idleness, Output, Tree, gpu_in_use, look_s, tree_of

if TYPE_CHECKING:
    from pathlib import Path

IDLE_S = 60.0
ONE = frozenset({(7, 100)})
TWO = frozenset({(7, 100), (8, 200)})


def fed(*looks: tuple[float, Tree | None, object]) -> list[bool]:
    """What is said at each look: when, the processes, the signs."""
    idleness = Idleness(IDLE_S, 0.0)
    return [idleness.add(tree, signs, now_s) for now_s, tree, signs in looks]


def quiet(until_s: int, cpu_s: float = 0.0) -> list[tuple[float, Tree | None, object]]:
    return [(float(at), Tree(ONE, cpu_s), "same") for at in range(until_s)]


def test_nothing_for_long_enough_is_idle() -> None:
    assert fed(*quiet(62))[-2:] == [True, True]
    assert not any(fed(*quiet(60)))


@pytest.mark.parametrize(
    "sign",
    [
        (Tree(ONE, 0.0), "another"),
        (Tree(TWO, 0.0), "same"),
        (Tree(frozenset({(7, 101)}), 0.0), "same"),
        (Tree(frozenset(), 0.0), "same"),
        (Tree(ONE, CPU_SHARE * IDLE_S + 0.01), "same"),
        (None, "same"),
        (Tree(ONE, 0.0), None),
    ],
    ids=["output or heartbeat", "started", "another of that number", "ended", "cpu", "not to be seen", "unknown"],
)
def test_any_sign_of_work_begins_it_again(sign: tuple[Tree | None, object]) -> None:
    looks = [*quiet(59), (59.0, *sign), *((float(at), *sign) for at in range(60, 119))]
    assert not any(fed(*looks))


@pytest.mark.parametrize(
    ("chunks", "counted"),
    [
        ([b"[2026-11-27 17:46:39,887: INFO/MainProcess] sync with w4@vm\n"], 0),
        ([b"[2026-11-27 17:46:43,443: INFO/MainProcess] missed heartbeat from w3@vm\n"], 0),
        ([b"[2026-11-27 17:46:43,443: INFO/MainProcess] mingle: all alone\n"], 0),
        ([b"17:00:00 default: Cleaning registries for queue: default\n"], 0),
        ([b"INFO sync with w4@vm\nINFO missed heartbeat from w3@vm\n"], 0),
        ([b"epoch 1\nINFO sync with w4@vm\n"], 1),
        ([b"INFO sync with the store\n"], 1),
        ([b"."], 1),
        ([b".", b".", b"\n"], 3),
        ([b"job ", b"INFO sync with w4@vm\n"], 2),
        ([b"tick 7\n"], 0),
        ([b"\n"], 1),
    ],
)
def test_what_libraries_print_without_a_job_is_no_sign_of_work(chunks: list[bytes], counted: int) -> None:
    read, write = os.pipe()
    output = Output(write, [re.compile(rb"^tick \d+$")])
    for chunk in chunks:
        os.write(output.write_end, chunk)
        assert os.read(read, 4096) == chunk  # passed on all the same
    output.started()
    asyncio.run(output.finish(60.0))
    assert output.count == counted
    os.close(read)
    os.close(write)


def test_next_to_no_processor_time_is_idle() -> None:
    looks: list[tuple[float, Tree | None, object]] = [
        (float(at), Tree(ONE, at * CPU_SHARE * 0.9), "same") for at in range(62)
    ]
    assert fed(*looks)[-1]


def test_little_processor_time_again_and_again_is_work() -> None:
    looks: list[tuple[float, Tree | None, object]] = [
        (float(at), Tree(ONE, at * CPU_SHARE * 1.2), "same") for at in range(300)
    ]
    assert not any(fed(*looks))


@pytest.mark.parametrize(("idle_s", "apart_s"), [(1.0, 0.1), (60.0, 3.0), (3600.0, 5.0)])
def test_looks_are_as_far_apart_as_makes_sense(idle_s: float, apart_s: float) -> None:
    assert look_s(idle_s) == apart_s


class TestTree:
    def test_it_has_all_that_a_process_has_started(self) -> None:
        """Also what has left the family, by the mark in its environment."""
        script = (
            "import subprocess, sys\n"
            "child = subprocess.Popen(['sleep', '600'])\n"
            "leave = 'setsid sleep 600 >/dev/null 2>&1 & echo $!'\n"
            "orphan = subprocess.run(['sh', '-c', leave], stdout=-1, text=True)\n"
            "print(child.pid, orphan.stdout.strip(), flush=True)\n"
            "sys.stdin.read()\n"
            "child.kill()\n"
        )
        environment = {**os.environ, "NULL_SESSION_ID": "a-session-of-this-test"}
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            pids = [int(word) for word in process.stdout.readline().split()]
            try:
                tree = tree_of(process.pid, "a-session-of-this-test")
                assert tree is not None
                assert {pid for pid, _ in tree.processes} >= set(pids)
                assert process.pid not in {pid for pid, _ in tree.processes}
            finally:
                os.kill(pids[1], 9)
                process.communicate("")

    def test_it_counts_the_time_of_children_that_have_ended(self) -> None:
        before = tree_of(os.getppid(), "none")
        subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
        after = tree_of(os.getppid(), "none")
        assert before is not None
        assert after is not None
        assert after.cpu_s > before.cpu_s + 0.05

    def test_a_process_that_is_not_there_has_no_tree(self) -> None:
        with subprocess.Popen(["true"]) as process:
            process.wait()
        assert tree_of(process.pid, "none") is None


class TestGpu:
    @pytest.mark.parametrize(
        ("tool", "in_use"),
        [
            ("echo 0; echo 0", False),
            ("echo 0; echo 37", True),
            ("echo '[N/A]'", True),
            ("echo 0; exit 9", True),
        ],
    )
    async def test_the_drivers_tool_is_asked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, in_use: bool
    ) -> None:
        """A tool that does not tell counts as work."""
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{tool}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert await gpu_in_use() is in_use

    async def test_a_machine_without_the_tool_has_no_gpu_in_use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        assert not await gpu_in_use()
