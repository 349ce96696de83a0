"""A trace under a rival's rule: workers pull jobs from one queue, the rule says how many there are."""

from __future__ import annotations

import heapq
from collections import Counter, deque
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
        self._ready_at: dict[int, float] = {}  # when its boot ended
        self._free: deque[int] = deque()
        self._began: dict[int, float] = {}
        self._next_worker = 0
        self._busy_s = self._ready_s = 0.0  # since the last look, of those that are ready and not told to end
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
        phases = Counter(self._phase.values())
        running, booting, idle = phases["held"], phases["booting"], phases["free"]
        workers = running + booting + idle
        in_flight = running + phases["draining"]
        view = View(
            now_s, len(self._queue), running, booting, workers, in_flight, idle, self._cap, self._utilisation(now_s)
        )
        wanted = self._rule.wanted(view)
        for _ in range(wanted - workers):
            self._create(now_s)
        if wanted < workers and self._rule.victims != "never":
            self._shrink(now_s, workers - wanted)

    def _utilisation(self, now_s: float) -> float:
        for worker in self._phase:
            self._pay(worker, now_s)
        busy_s, ready_s = self._busy_s, self._ready_s
        self._busy_s = self._ready_s = 0.0
        return busy_s / ready_s if ready_s else 0.0

    def _create(self, now_s: float) -> None:
        self._next_worker += 1
        worker = self._next_worker
        self._phase[worker], self._since[worker], self._turn[worker] = "booting", now_s, 0
        self._push(now_s + self._start_up_s, "ready", worker)

    def _shrink(self, now_s: float, count: int) -> None:
        """Takes workers away, as the rule chooses them."""
        for worker in self._victims(now_s)[:count]:
            if self._phase[worker] == "held":
                if self._rule.is_graceful:
                    self._pay(worker, now_s)
                    self._phase[worker] = "draining"  # it goes when its job is done
                    continue
                self.outcome.killed += 1
                self._queue.appendleft(self._job.pop(worker))
            self._remove(worker, now_s)

    def _victims(self, now_s: float) -> list[int]:
        """Whom the rule takes away, the first one first.

        A ReplicaSet's controller (`ActivePodsWithRanks` of pkg/controller/controller_utils.go) takes a pod that is not
        ready, then the one that has been ready for the shortest time, in powers of two of seconds, and of those a
        random one. It does not know which are at work.
        """
        workers = [worker for worker, phase in self._phase.items() if phase != "draining"]
        if self._rule.victims == "idle":
            workers = [worker for worker in workers if self._phase[worker] == "free"]
        self._rng.shuffle(workers)
        if self._rule.victims == "replicaset":
            workers.sort(key=lambda worker: self._ready_for(worker, now_s))
        return workers

    def _ready_for(self, worker: int, now_s: float) -> int:
        ready_at_s = self._ready_at.get(worker)
        return -1 if ready_at_s is None else int(now_s - ready_at_s).bit_length()

    def _remove(self, worker: int, now_s: float) -> None:
        self._pay(worker, now_s)
        if self._phase.pop(worker) == "free":
            self._free.remove(worker)
        del self._since[worker], self._turn[worker]
        self._ready_at.pop(worker, None)

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
            if self._rule.one_job or self._phase[worker] == "draining":
                self._remove(worker, now_s)
                return
        self._ready_at.setdefault(worker, now_s)
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
        self._busy_s += seconds * (phase == "held")
        self._ready_s += seconds * (phase in ("held", "free"))
        if phase == "booting":
            self.outcome.booting_s += seconds
        elif phase == "free":
            self.outcome.idle_s += seconds
        else:
            self.outcome.held_s += seconds
        self._since[worker] = now_s
