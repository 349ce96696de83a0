"""Runs one of the three nets against one bug, in a process of its own that imports the core with the bug in it.

A process may use so much of a processor's time and memory: a bug that never ends is noticed by that.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation import exhaustive_bugs, mutants
from tests.simulation.mutations import Mutation
from tests.simulation.plants import ROOT, planted_trees

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from tests.simulation.mutants import Bug

UNIT_TESTS = ("tests/unit/core",)
SEEDS_MAX = 200
#: What each net may take, in s of a processor's time: far more than it takes of a sound core (3, 10 and 20 s).
CPU_S = {"unit": 30, "simulator": 100, "exhaustive": 120}
MEMORY_BYTES = 3 * 2**30
#: Of the wall clock, in s: a bug that waits for something uses no processor.
WALL_S = 1_200.0

#: What noticed a bug first, or None: nothing did.
Verdict = dict[str, Any] | None


class _FirstFailure:
    """A pytest plugin: which test failed."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def unit(bug: Bug, tests: Sequence[str] = UNIT_TESTS) -> Verdict:
    """The core's unit tests, until one fails.

    Args:
        bug: what is planted; None: nothing.
        tests: which, as for pytest.
    """
    trees = planted_trees(bug) if isinstance(bug, Mutation) else bug
    if trees is not None:
        sys.meta_path.insert(0, mutants.Planter(trees))
    plugin = _FirstFailure()
    code = pytest.main(
        [
            "-x",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "-p",
            "no:cov",
            "--hypothesis-seed=0",
            *tests,
        ],
        plugins=[plugin],
    )
    if code == pytest.ExitCode.OK:
        return None
    if code not in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):
        raise RuntimeError(f"pytest ended with {code!r}")
    return {"test": plugin.failed}


def simulator(bug: Bug, seeds: int = SEEDS_MAX) -> Verdict:
    """The first seeds of the simulator, whose scenarios take turns, until a promise is broken.

    Args:
        bug: what is planted; None: nothing.
        seeds: how many.
    """
    return mutants.hunt(bug, 1, seeds)


def exhaustive(bug: Bug, states: int = exhaustive_bugs.STATES_MAX) -> Verdict:
    """The walk through all states of each small world, until a promise is broken.

    Args:
        bug: what is planted; None: nothing.
        states: of each world.
    """
    return exhaustive_bugs.hunt(bug, states_max=states)


NETS: dict[str, Callable[..., Verdict]] = {"unit": unit, "simulator": simulator, "exhaustive": exhaustive}


def trial(net: str, bug: Bug, *limits: Any) -> Verdict:
    """Runs a net in a process of its own.

    Args:
        net: a name of `NETS`.
        bug: what is planted; None: nothing.
        limits: the further arguments of the net.

    Raises:
        RuntimeError: the net could not be run.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        process = context.Process(target=_child, args=(theirs, folder, net, bug, limits))
        process.start()
        theirs.close()
        try:
            verdict, error = ours.recv() if ours.poll(WALL_S) else ({"limit": f"{WALL_S:g} s"}, "")
        except EOFError:  # it was ended by the kernel, at one of its limits
            process.join()
            verdict, error = {"limit": _limit(process.exitcode, net)}, ""
        finally:
            process.kill()
            process.join()
            ours.close()
    if error:
        raise RuntimeError(error)
    return verdict


def _limit(exitcode: int | None, net: str) -> str:
    if exitcode == -signal.SIGXCPU:
        return f"{CPU_S[net]} s of a processor"
    return f"its process ended with {exitcode}"


def _child(out: Connection, folder: str, net: str, bug: Bug, limits: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that made this one ends it
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S[net], CPU_S[net] + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()
    sys.dont_write_bytecode = True
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = folder
    os.chdir(ROOT)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        out.send((NETS[net](bug, *limits), ""))
    except Exception as error:  # the core cannot even be imported, or raises where nothing expects it
        unexpected = bug is None or net == "unit"
        said = f"{type(error).__name__}: {error}"[:200]
        out.send((None, f"{net}: {said}") if unexpected else ({"promise": "error", "message": said}, ""))
    out.close()
    os._exit(0)
