"""What a route and a report cost the core at a hundred workers and at a hundred thousand, without network and disk."""

from __future__ import annotations

import gc
import statistics
import time
from typing import Any

from nullworker.core import commands, events
from nullworker.core.engine import Engine
from nullworker.core.parameters import Parameters, WorkergroupSpec

FEW, MANY = 100, 100_000
CYCLES = 200
ROUNDS = 101


class Fleet:
    """An engine whose workers are all ready."""

    def __init__(self, count: int) -> None:
        self.engine = Engine()
        self.count = count
        self.now = 1_000.0
        self.request_idx = self.seq = 0
        parameters = Parameters(
            min_load=100.0 * count, target_util=1.0, cold_workers=0, cold_mult=0.0, max_workers=count
        )
        self.handle(events.EndpointPut(1, "e", parameters))
        self.handle(events.WorkergroupPut(WorkergroupSpec(1, 1, "f", occupancy=1)))
        self.handle(events.TimePassed())  # it begins: the workers are asked for
        for worker_id in range(1, count + 1):
            self.handle(self.report(worker_id))

    def handle(self, event: events.Event) -> list[commands.Command]:
        return self.engine.handle(event, self.now)

    def report(self, worker_id: int) -> events.WorkerReported:
        self.seq += 1
        return events.WorkerReported(worker_id, f"http://w{worker_id}:1", True, "", 100.0, 0.0, (), self.seq, self.seq)

    def routes(self) -> float:
        """Seconds for one reservation: it is asked for and granted, ends, and its worker says that it is free."""
        began = time.thread_time()
        for _ in range(CYCLES):
            self.request_idx += 1
            self.now += 0.001
            grant = next(
                c for c in self.handle(events.Asked(1, self.request_idx, 100.0)) if isinstance(c, commands.Grant)
            )
            done = events.Finished(self.request_idx, "Success", self.now)
            self.handle(events.RequestsFinished(grant.worker_id, (done,)))
            self.handle(self.report(grant.worker_id))
        return (time.thread_time() - began) / CYCLES

    def reports(self) -> float:
        """Seconds for one report that says nothing new, each of another worker, as far from the last as can be."""
        stride = max(1, self.count // CYCLES)
        news = [self.report(1 + n * stride % self.count) for n in range(CYCLES)]
        began = time.thread_time()
        for event in news:
            self.now += 0.001
            self.handle(event)
        return (time.thread_time() - began) / CYCLES


async def route_cost() -> dict[str, Any]:
    """One reservation, and one report, at a hundred thousand workers beside a hundred, in turns.

    The worker that was freed last serves first, so that one cycle touches the same few workers in both fleets; reports
    come from all over the larger one, of which no cache holds all. What counts is the median of the turns' ratios: what
    else runs on the machine slows both of a turn alike, and takes none of this thread's own time.
    """
    few, many = Fleet(FEW), Fleet(MANY)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        rounds = [(few.routes(), many.routes(), few.reports(), many.reports()) for _ in range(ROUNDS)]
    finally:
        gc.enable()
        gc.unfreeze()
    routes_few, routes_many, reports_few, reports_many = (statistics.median(x) for x in zip(*rounds, strict=True))
    ratio = statistics.median(m / f for f, m, _, _ in rounds)
    return {
        "name": f"a route at {MANY} workers",
        f"route_at_{FEW}_us": routes_few * 1e6,
        f"route_at_{MANY}_us": routes_many * 1e6,
        "ratio": ratio,
        f"report_at_{FEW}_us": reports_few * 1e6,
        f"report_at_{MANY}_us": reports_many * 1e6,
        "reports_ratio": statistics.median(m / f for _, _, f, m in rounds),
        "wanted": "ratio at most 1.2",
        "met": ratio <= 1.2,
        "rounds": ROUNDS,
    }


BENCHMARKS = {"route": route_cost}
