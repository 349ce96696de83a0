"""What a worker says that its sessions are for is taken of those alone that it holds or held."""

from __future__ import annotations

from typing import Any

from nullworker.engine.api.dispatchers import DispatchersApi
from nullworker.engine.cost_keeper import CostKeeper
from nullworker.engine.dispatchers import Dispatchers
from nullworker.views.history import History
from nullworker.wire.types import JobTold, LabelReport


async def test_a_worker_names_the_jobs_of_what_it_held_and_of_nothing_else() -> None:
    history, costs = History(), CostKeeper(lambda: 1e9, lambda: 0.0, lambda _worker, _group: None)
    for worker_id, request_idx in ((1, 5), (2, 6)):
        history.worker(1.0, worker_id, "held", 1, 2)
        history.reservation(1.0, request_idx, 1, "session", worker_id)
    history.reservation(2.0, 5, 0, "ended", 0)
    unused: Any = None
    api = DispatchersApi(unused, Dispatchers(), unused, unused, costs, history)
    await api.jobs(1, [JobTold(5, "tile 17"), JobTold(6, "of another"), JobTold(7, "of none")])
    assert {label.request_idx: label.job for label in costs.labels.values()} == {5: "tile 17"}
    assert history.workers[1].holds[5].job == "tile 17"
    assert history.workers[2].holds[6].job == ""
    await costs.close()


async def test_jobs_that_a_dispatcher_read_add_to_what_it_said_and_replace_nothing_that_others_said() -> None:
    costs = CostKeeper(lambda: 1e9, lambda: 0.0, lambda _worker, _group: None)
    unused: Any = None
    api = DispatchersApi(unused, Dispatchers(), unused, unused, costs, History())

    async def read(job: str) -> str:
        await api._label(api._read_from_broker([LabelReport(5, "rq://jobs", job)]))
        return costs.labels[5].job

    assert await read("") == ""
    assert await read("17") == "17"
    assert await read("17, 18") == "17, 18"
    assert await read("") == "17, 18"
    await api._label([LabelReport(5, "", "mandelbrot")])  # its consumer's word
    assert await read("17, 18, 19") == "mandelbrot"
    assert costs.labels[5].queue == "rq://jobs"
    await costs.close()
