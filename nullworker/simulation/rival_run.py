"""A trace under a rival's rule: workers pull jobs from one queue, the rule says how many there are."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from nullworker.simulation.outcome import Outcome
from nullworker.simulation.rivals import View

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from nullworker.simulation.rivals import Rule
    from nullworker.simulation.traces import Job

#: A rule that leaves jobs waiting for ever is stopped so long after the last job could have ended.
PATIENCE_S = 30 * 86_400.0


class RivalRun:
    """One run of one trace under one rule."""

    def __init__(self, jobs: Sequence[Job], rule: Rule, start_up_s: float, cap: int, rng: Random) -> None:
        self._jobs = jobs
        self._rule = rule
        self._start_up_s = start_up_s
        self._cap = cap
        self._rng = rng
        self._events: list[tuple[float, int, str, int, int]] = []  # (when, order, what, worker, its turn)
        self._count = 0
        self._queue: deque[int] = deque()
        self._since: dict[int, float] = {}  # each worker's last change
        self._phase: dict[int, str] = {}
        self._turn: dict[int, int] = {}  # raised at each change, so that a stale entry is known
        self._job: dict[int, int] = {}
        self._free: deque[int] = deque()
        self._began: dict[int, float] = {}
        self._next_worker = 0
        self.outcome = Outcome(rule.name, len(jobs))

    def run(self) -> Outcome:
        """Runs the trace to the end of its last job."""
        jobs, rule = self._jobs, self._rule
        arrived, done_at_s = 0, 0.0
        next_look_s = 0.0
        give_up_s = jobs[-1].arrival_s + sum(j.duration_s for j in jobs[-1:]) + PATIENCE_S
        while True:
            arrival_s = jobs[arrived].arrival_s if arrived < len(jobs) else float("inf")
            event_s = self._events[0][0] if self._events else float("inf")
            if arrival_s == event_s == float("inf") and not self._queue:
                break
            now_s = min(arrival_s, event_s, next_look_s)
            if now_s > give_up_s:
                break
            done_at_s = now_s
            if now_s == arrival_s:
                self._queue.append(arrived)
                arrived += 1
                self._feed(now_s)
            elif now_s == event_s:
                self._happen(now_s)
            else:
                self._look(now_s)
                quiet = not self._queue and not self._events and not self._phase
                next_look_s = now_s + rule.interval_s
                if quiet and arrival_s != float("inf") and rule.interval_s < arrival_s - now_s:
                    # Nothing can change before the next arrival; look again where the rhythm falls then.
                    next_look_s += int((arrival_s - next_look_s) / rule.interval_s) * rule.interval_s
            self.outcome.peak = max(self.outcome.peak, len(self._phase))
        for worker in list(self._phase):
            self._pay(worker, done_at_s)
        self.outcome.unserved = len(self._queue)
        return self.outcome

    # ---------------------------------------------------------------------------------------------- what happens

    def _look(self, now_s: float) -> None:
        phases = list(self._phase.values())
        booting, idle = phases.count("booting"), phases.count("free")
        running = len(phases) - booting - idle
        view = View(now_s, len(self._queue), running, booting, len(phases), idle, self._cap)
        wanted = self._rule.wanted(view)
        for _ in range(wanted - len(phases)):
            self._create(now_s)
        if wanted < len(phases) and self._rule.victims != "never":
            self._shrink(now_s, len(phases) - wanted)

    def _create(self, now_s: float) -> None:
        self._next_worker += 1
        worker = self._next_worker
        self._phase[worker], self._since[worker], self._turn[worker] = "booting", now_s, 0
        self._push(now_s + self._start_up_s, "ready", worker)

    def _shrink(self, now_s: float, count: int) -> None:
        candidates = [w for w, phase in self._phase.items() if self._rule.victims == "random" or phase == "free"]
        for worker in self._rng.sample(candidates, min(count, len(candidates))):
            if self._phase[worker] == "held":
                self.outcome.killed += 1
                self._queue.appendleft(self._job.pop(worker))
            self._remove(worker, now_s)

    def _remove(self, worker: int, now_s: float) -> None:
        self._pay(worker, now_s)
        if self._phase.pop(worker) == "free":
            self._free.remove(worker)
        del self._since[worker], self._turn[worker]

    def _push(self, at_s: float, what: str, worker: int) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, what, worker, self._turn[worker]))

    def _happen(self, now_s: float) -> None:
        _, _, what, worker, turn = heapq.heappop(self._events)
        if self._turn.get(worker) != turn:
            return
        if what == "idle":
            self._remove(worker, now_s)
            return
        if what == "done":
            # A job that was killed before has waited until the start that it finished from.
            job = self._jobs[self._job.pop(worker)]
            self.outcome.waits_s.append(self._began[worker] - job.arrival_s)
            if self._rule.one_job:
                self._remove(worker, now_s)
                return
        self._change(worker, "free", now_s)
        self._free.append(worker)
        if self._rule.idle_exit_s is not None:
            self._push(now_s + self._rule.idle_exit_s, "idle", worker)
        self._feed(now_s)

    def _feed(self, now_s: float) -> None:
        """Free workers pull what waits, the one freed last first."""
        while self._queue and self._free:
            worker, number = self._free.pop(), self._queue.popleft()
            self._change(worker, "held", now_s)
            self._job[worker] = number
            self._began[worker] = now_s
            self._push(now_s + self._jobs[number].duration_s, "done", worker)

    # ------------------------------------------------------------------------------------------------------ sums

    def _change(self, worker: int, phase: str, now_s: float) -> None:
        self._pay(worker, now_s)
        self._phase[worker] = phase
        self._turn[worker] += 1

    def _pay(self, worker: int, now_s: float) -> None:
        seconds = now_s - self._since[worker]
        phase = self._phase[worker]
        if phase == "booting":
            self.outcome.booting_s += seconds
        elif phase == "free":
            self.outcome.idle_s += seconds
        else:
            self.outcome.held_s += seconds
        self._since[worker] = now_s
