"""What a coarser treatment of reports without a number would cost, and what it would save (decision 9).

The same seeds of the simulator's scenarios with stock workers run on the core as it is and on the core with a coarse
mode, which is put in here from outside: a stock worker is neither granted nor ended until two of its reports agree.

    python -m bench.coarse_mode --seeds 300

Two meanings of "agree" are measured, since the framework repeats a report for up to `limits.RESEND_S`:

- ``coarse``: the second report arrives at least `RESEND_S` after the first, so that it was certainly made later.
- ``coarse, any two``: any two in a row; they may be the same report, delivered twice.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import os
import re
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Grant
from nullworker.core.intake import reports
from nullworker.core.invariants import InvariantBroken
from nullworker.core.reconcile.deliveries import Delivery
from nullworker.core.reconcile.report_order import ReportAge, ReportOrder
from nullworker.core.reconcile.trust import Trust
from nullworker.core.reservation import Stage
from nullworker.core.state import EngineState
from nullworker.simulation.checkers import all_checkers
from nullworker.simulation.event_queue import Stalled
from nullworker.simulation.hooks import HOOKS, Hooks
from nullworker.simulation.observer import Checker, PromiseBroken
from nullworker.simulation.scenarios import SCENARIOS, Scenario
from nullworker.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.core.events import Event, Finished, WorkerReported
    from nullworker.core.reservation import Reservation
    from nullworker.core.worker import Worker
    from nullworker.simulation.clients import Client
    from nullworker.simulation.hooks import Call
    from nullworker.simulation.process import Process, Session
    from nullworker.simulation.truth import Truth

FIRST_SEED = 7_000_000
#: After the last client is done, workers are paid for so long before the account is closed, in all modes alike.
AFTER_S = 120.0

_stock = {name: SCENARIOS[name] for name in ("calm-stock", "network-stock", "workers-stock", "everything-stock")}
#: No scenario of the simulator has stock workers and fewer of them than clients, which is where a hand-over counts.
_queue = replace(SCENARIOS["queue"], name="queue-stock", stock_workers=True, stock_clients=1.0)
WORLDS: dict[str, Scenario] = {**_stock, _queue.name: _queue}


# -------------------------------------------------------------------------------------------------------- coarse mode


#: What of the core is replaced: where it is, and its name.
REPLACED: tuple[tuple[Any, str], ...] = (
    (ReportOrder, "classify"),
    (Delivery, "is_of_before"),
    (Trust, "heard"),
    (EngineState, "drop"),
    (EngineState, "report_tells"),
    (reports, "_not_listed"),
    (reports, "_done"),
    (reports, "_sessions"),
    (reports, "_responsive"),
)


class CoarseMode:
    """The replaced functions of the core. Of a worker that numbers its reports everything is as before.

    - Reports are not put in order: counts and loading times are not looked at, and each is as good as another.
    - A session is over when two reports that agree do not list it; until then its worker is held. That a worker says
      it has finished a request counts as the first of the two (not for "any two": there only reports count).
    - A worker on which a session may have begun (a grant of it did not take) is not granted, nor ended, before two
      reports agree.
    """

    def __init__(self, agree_s: float) -> None:
        self.agree_s = agree_s
        self._unlisted_at: dict[Reservation, float] = {}
        self._original: dict[str, Callable[..., Any]] = {name: getattr(where, name) for where, name in REPLACED}

    def replacement(self, name: str) -> Callable[..., Any]:
        """What stands in the place of a function or method of the core."""
        call = getattr(self, name.lstrip("_"))

        def replacement(*arguments: object, **named: object) -> object:
            return call(*arguments, **named)

        return replacement

    def classify(self, order: ReportOrder, report: WorkerReported, *when: object, serves: bool) -> ReportAge:
        if order.numbers or report.seq:
            age: ReportAge = self._original["classify"](order, report, *when, serves=serves)
            return age
        return ReportAge.FRESH

    def is_of_before(self, *_: object, finished: bool) -> bool:  # noqa: ARG002 - its count is not looked at
        return False

    def sessions(self, state: EngineState, worker: Worker, event: WorkerReported) -> None:
        if not worker.report_order.numbers:
            for request_idx in event.request_idxs:
                if request_idx in worker.held:
                    self._unlisted_at.pop(worker.held[request_idx], None)
        self._original["_sessions"](state, worker, event)

    def not_listed(self, state: EngineState, worker: Worker, session: Reservation, *, numbered: bool) -> None:
        if worker.report_order.numbers or session.delivery.restored:
            self._original["_not_listed"](state, worker, session, numbered=numbered)
            return
        first_at = self._unlisted_at.get(session)
        if first_at is None:
            self._unlisted_at[session] = state.now
            return
        # Its client may be on its way to the worker again, until its answer runs out.
        since = max(first_at, session.expires_at) if session.delivery.pending else first_at
        if state.now < since + self.agree_s:
            return
        del self._unlisted_at[session]
        state.end(session)
        state.note_worker(
            worker,
            "session_ended",
            Cause.NOT_LISTED_BY_WORKER,
            "two reports that agree do not list it",
            request_idx=session.request_idx,
        )

    def done(self, state: EngineState, worker: Worker, held: Reservation | None, request: Finished) -> None:
        if worker.report_order.numbers:
            self._original["_done"](state, worker, held, request)
            return
        if request.status == "Success" and worker.failure is None:
            worker.proven = True
            worker.workergroup.proven()
        if held is None:
            return
        if held.present:
            state.requeue(held)
        elif not held.delivery.pending and held.stage is Stage.GRANTED:
            held.delivery.accounted -= 1
            state.confirm(worker, held)  # it came and went between two reports
        if held.stage is Stage.SESSION and self.agree_s:
            self._unlisted_at.setdefault(held, state.now)

    def drop(self, state: EngineState, worker: Worker, reservation: Reservation) -> None:
        may_have_begun = reservation.stage is Stage.GRANTED and reservation.delivery.count > 0
        self._original["drop"](state, worker, reservation)
        if may_have_begun and not worker.report_order.numbers:
            state.doubt(worker)

    def heard(self, trust: Trust, now: float, *, numbered: bool) -> bool:
        # For "any two" a report without a number is worth what a numbered one is: time says nothing.
        return bool(self._original["heard"](trust, now, numbered=numbered or not self.agree_s))

    def responsive(self, state: EngineState, worker: Worker) -> None:
        if worker.report_order.numbers or not worker.trust.may_hold_unknown:
            self._original["_responsive"](state, worker)

    def report_tells(self, state: EngineState, worker: Worker, *, numbered: bool) -> None:
        before = worker.trust.may_hold_unknown
        self._original["report_tells"](state, worker, numbered=numbered)
        if before and not worker.trust.may_hold_unknown and not worker.report_order.numbers:
            self._original["_responsive"](state, worker)


#: Name of a mode -> after how many seconds two reports agree; None: the core as it is.
MODES: dict[str, float | None] = {"as it is": None, "coarse": limits.RESEND_S, "coarse, any two": 0.0}


@contextlib.contextmanager
def coarse_mode(agree_s: float | None) -> Iterator[None]:
    """The core in a coarse mode, for the length of the block (None: the core as it is)."""
    if agree_s is None:
        yield
        return
    mode = CoarseMode(agree_s)
    originals = [(where, name, getattr(where, name)) for where, name in REPLACED]
    for where, name in REPLACED:
        setattr(where, name, mode.replacement(name))
    try:
        yield
    finally:
        for where, name, original in originals:
            setattr(where, name, original)


# ---------------------------------------------------------------------------------------------------------- measuring


@dataclass(slots=True)
class Figures:
    """What one run, or many, gave."""

    hand_overs_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    clients: int = 0
    worker_s: float = 0.0
    broken: Counter[str] = field(default_factory=Counter)  # promise -> seeds
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, other: Figures) -> None:
        self.hand_overs_s += other.hand_overs_s
        self.waits_s += other.waits_s
        self.clients += other.clients
        self.worker_s += other.worker_s
        self.broken += other.broken
        self.examples = {**other.examples, **self.examples}


class Meter(Checker):
    """Notes hand-overs, waits and running instances, by the truth of the world."""

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self.figures = Figures()
        self.last_over_s = 0.0
        self._asked_at: dict[int, float] = {}
        self._freed: dict[int, tuple[float, int]] = {}  # worker -> when its session ended, and whose it was
        self._running: list[tuple[float, int]] = [(0.0, 0)]  # since when so many instances run

    def asked(self, request_idx: int, endpoint_id: int, call: Call) -> None:  # noqa: ARG002 - a hook
        self._asked_at.setdefault(request_idx, self.truth.now)

    def session_closed(self, process: Process, session: Session, why: str) -> None:  # noqa: ARG002 - a hook
        if process.alive:
            self._freed[process.worker_id] = (self.truth.now, session.request_idx)

    def handled(self, engine: Engine, event: Event, decided: list[Command]) -> None:  # noqa: ARG002 - a hook
        running = sum(instance.state == "running" for instance in self.truth.instances.values())
        if running != self._running[-1][1]:
            self._running.append((self.truth.now, running))
        for command in decided:
            if isinstance(command, Grant) and command.worker_id in self._freed:
                freed_at, request_idx = self._freed[command.worker_id]
                if command.request_idx == request_idx:
                    continue  # the same client is answered again
                del self._freed[command.worker_id]
                if self._asked_at[command.request_idx] <= freed_at:
                    self.figures.hand_overs_s.append(self.truth.now - freed_at)

    def held(self, client: Client) -> None:
        self.figures.waits_s.append(self.truth.now - client.job.arrives_at)

    def client_over(self, client: Client) -> None:  # noqa: ARG002 - a hook
        self.last_over_s = self.truth.now

    def worker_s(self, until_s: float) -> float:
        """Seconds of running instances up to then; those that ran at the end of the run go on."""
        ends = [*(at for at, _ in self._running[1:]), until_s]
        return sum(
            count * max(0.0, min(end, until_s) - at) for (at, count), end in zip(self._running, ends, strict=True)
        )


class _Broken:
    """Runs the checkers, and counts what they find instead of ending the run."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}

    def guarded(self, call: Callable[..., None], enough: set[int], checker: int) -> Callable[..., None]:
        def guard(*arguments: object) -> None:
            if checker in enough:
                return
            try:
                call(*arguments)
            except PromiseBroken as error:
                enough.add(checker)
                self.first.setdefault(error.promise, str(error))

        return guard

    def checkers(self, truth: Truth) -> list[Checker]:
        enough: set[int] = set()
        later = truth.later

        def guarded_later(delay_s: float, check: Callable[..., None], *arguments: object) -> None:
            later(delay_s, self.guarded(check, enough, id(check.__self__)), *arguments)  # type: ignore[attr-defined]

        truth.later = guarded_later  # type: ignore[method-assign, assignment]
        guards = []
        for checker in all_checkers(truth):
            hooks: dict[str, Any] = {
                name: staticmethod(self.guarded(getattr(checker, name), enough, id(checker)))
                for name in HOOKS
                if getattr(type(checker), name) is not getattr(Hooks, name)
            }
            guards.append(type("Guard", (Checker,), {**hooks, "checker": checker})(truth))
        return guards


def run_seed(world: str, seed: int) -> dict[str, Figures]:
    """Runs one seed in all modes; the figures by mode."""
    meters: dict[str, Meter] = {}
    for mode, agree_s in MODES.items():
        with coarse_mode(agree_s):
            meters[mode] = _run(WORLDS[world], seed)
    until_s = AFTER_S + max(meter.last_over_s for meter in meters.values())
    for meter in meters.values():
        meter.figures.worker_s = meter.worker_s(until_s)
    return {mode: meter.figures for mode, meter in meters.items()}


def _run(scenario: Scenario, seed: int) -> Meter:
    broken = _Broken()
    meters: list[Meter] = []

    def checkers(truth: Truth) -> list[Checker]:
        meters.append(Meter(truth))
        return [meters[0], *broken.checkers(truth)]

    world = World(scenario.plan(seed), seed, checkers)
    try:
        world.run()
    except Stalled as error:
        broken.first.setdefault("P12", str(error))
    except InvariantBroken as error:
        broken.first.setdefault("invariant", str(error))
    figures = meters[0].figures
    figures.clients = len(world.clients)
    figures.broken = Counter(broken.first.keys())
    figures.examples = {promise: f"seed {seed}: {text}" for promise, text in broken.first.items()}
    return meters[0]


def measure(seeds: int, first_seed: int, worlds: list[str], jobs: int) -> dict[str, dict[str, Figures]]:
    """Runs ``seeds`` of each world in all modes; the sums by world and mode."""
    pairs = [(world, seed) for world in worlds for seed in range(first_seed, first_seed + seeds)]
    sums: dict[str, dict[str, Figures]] = defaultdict(lambda: {mode: Figures() for mode in MODES})
    names, numbers = [world for world, _ in pairs], [seed for _, seed in pairs]
    results: Iterator[dict[str, Figures]]
    if jobs == 1:
        results = map(run_seed, names, numbers)
    else:
        results = ProcessPoolExecutor(jobs).map(run_seed, names, numbers, chunksize=8)
    for (world, _), figures in zip(pairs, results, strict=True):
        for mode in MODES:
            sums[world][mode].add(figures[mode])
    return dict(sums)


# -------------------------------------------------------------------------------------------------------------- lines

_CORE = Path(reports.__file__).resolve().parents[1]
#: Names of the core that only reports without a number need: a line that has one of them would go with the coarse mode.
GOES = ("loadtime_s", "loadtimes_before", "received", "received_before", "is_of_before", "forget_counts", "new_process",
        "NEW_PROCESS", "PROCESSES_REMEMBERED", "_age_by_counts")  # fmt: skip
#: What arrives on the wire still arrives, and a numbered report may still tell of a new process.
_STAY = ("events.py", "causes.py")
#: Functions that would go whole: their name -> why nothing else needs them.
GOES_WHOLE = {
    "_age_by_counts": "the order by counts",
    "is_of_before": "a report from before the grant, told by its count",
    "new_process": "counts and loading times of earlier processes",
    "forget_counts": "counts at the time of a grant",
}
#: Names that look as if they would go, and stay because reports with a number need them, too.
STAYS = {
    "seq, late_reports, LATE_REPORTS_*, COUNTS_FROM_ZERO": "numbers of a process that counts from zero again",
    "SIGN_OF_LIFE, _lives": "a null worker's framework reports without a number as well",
    "finished_at, has_just_finished, await_report": "an end overtakes a report that was made before it",
    "pending, seen_attempts, expect, new_finishes": "ends bear no number with any worker",
    "count, accounted, reopened, orphan, restored": "answers get lost on the way to any client",
    "Trust, RESEND_S": "grants that did not take, restarts of the engine, the two streams of a null worker",
}


def lines_that_go() -> dict[str, int]:
    """Lines of code (without comments and docstrings) that would go, by file of the core."""
    names = re.compile(rf"(?<!Cause\.)\b({'|'.join(GOES)})\b")
    found: dict[str, int] = {}
    for path in sorted(_CORE.rglob("*.py")):
        if path.name in _STAY:
            continue
        text = path.read_text()
        whole, prose = _spans(ast.parse(text))
        count = 0
        for number, line in enumerate(text.splitlines(), 1):
            code = line.split("  #")[0]
            if number in prose or not code.strip() or code.lstrip().startswith("#"):
                continue
            count += number in whole or bool(names.search(code))
        if count:
            found[str(path.relative_to(_CORE))] = count
    return found


def lines_that_come() -> int:
    """Lines of code that the coarse mode itself is, without what replaces and restores.

    They hand what is numbered on to what they replace; written into the core it would be about two thirds of them.
    """
    text = Path(__file__).read_text()
    tree = ast.parse(text)
    mode = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "CoarseMode")
    _, prose = _spans(tree)
    functions = [node for node in mode.body if isinstance(node, ast.FunctionDef)]
    spans = [(f.lineno, f.end_lineno or f.lineno) for f in functions if f.name not in ("__init__", "replacement")]
    lines = text.splitlines()
    numbers = {n for first, last in spans for n in range(first, last + 1)} - prose
    return sum(bool(lines[n - 1].strip()) and not lines[n - 1].lstrip().startswith("#") for n in numbers)


def _spans(tree: ast.Module) -> tuple[set[int], set[int]]:
    """Line numbers of the functions that go whole, and of docstrings."""
    whole: set[int] = set()
    prose: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in GOES_WHOLE:
            whole |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return whole, prose


# -------------------------------------------------------------------------------------------------------------- output


def _part(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else float("nan")


def show(sums: dict[str, dict[str, Figures]]) -> None:
    """Prints the figures side by side."""
    print(
        f"{'scenario':<18}{'mode':<17}{'hand-over p50':>14}{'p95':>8}{'n':>7}{'wait p50':>10}{'p95':>8}"
        f"{'served':>14}{'worker-s':>11}  promises broken (seeds)"
    )
    for world, modes in sums.items():
        base = modes["as it is"].worker_s
        for mode, f in modes.items():
            broken = ", ".join(f"{promise} {count}" for promise, count in sorted(f.broken.items())) or "none"
            print(
                f"{world:<18}{mode:<17}{_part(f.hand_overs_s, 0.5):>12.1f} s{_part(f.hand_overs_s, 0.95):>6.1f} s"
                f"{len(f.hand_overs_s):>7}{_part(f.waits_s, 0.5):>8.1f} s{_part(f.waits_s, 0.95):>6.1f} s"
                f"{len(f.waits_s):>7}/{f.clients:<6}{f.worker_s / base if base else 1.0:>10.3f}x  {broken}"
            )
    print()
    for world, modes in sums.items():
        for mode, f in modes.items():
            for promise, text in sorted(f.examples.items()):
                print(f"{world}, {mode}, {promise}: {text}")
    print()
    gone = lines_that_go()
    print(f"lines of the core that would go: {sum(gone.values())}; that would come: {lines_that_come()}")
    for path, count in gone.items():
        print(f"  {count:>3}  {path}")
    print("functions that would go: " + "; ".join(f"{name} ({why})" for name, why in GOES_WHOLE.items()))
    print("stays, because numbered reports need it: " + "; ".join(f"{name} ({why})" for name, why in STAYS.items()))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--scenario", choices=list(WORLDS), action="append", help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    show(measure(args.seeds, args.first_seed, args.scenario or list(WORLDS), args.jobs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
