"""P3: a client of an endpoint with room gets a worker within `target_queue_time` and one worker's start-up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nullworker.core import events, explain
from nullworker.simulation.clients import ClientStage
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.simulation.clients import Client
    from nullworker.simulation.process import Process
    from nullworker.simulation.truth import Truth

#: Polls of the stock client (5 s and a little), a fleet's answer, a tick, the way there and back.
SLACK_S = 8.0


class NGetN(Checker):
    """In a world without faults: each client. In any: everyone who still waits when the faults are over."""

    promise = "P3"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._refusals: Counter[int] = Counter()  # of each request, by workers

    def told(self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int) -> None:  # noqa: ARG002 - a hook
        if isinstance(message, events.RequestsFinished):
            self._refusals.update(request.request_idx for request in message.requests if request.status == "Rejected")

    def held(self, client: Client) -> None:
        plan = self.truth.plan
        if not self.truth.calm or plan.endpoints[client.job.endpoint_id].max_workers < len(plan.jobs):
            return
        patience_s = plan.endpoints[client.job.endpoint_id].target_queue_time + plan.boot_s[1] + SLACK_S
        # How many a worker takes is learnt from refusals, and while it asks one in vain, a free one goes to the next.
        patience_s *= 1 + self._refusals[client.request_idx]
        waited_s = self.truth.now - client.job.arrives_at
        self.require(
            waited_s <= patience_s,
            f"client {client.number} waited {waited_s:.1f} s, and a worker's start-up is at most {plan.boot_s[1]:g} s",
        )

    def at_rest(self) -> None:
        for client in self.truth.clients:
            if client.wants and self.truth.has_room(client.job.endpoint_id):
                engine = self.truth.engine
                why = explain.why_waiting(engine, client.request_idx) if engine is not None else "the engine is down"
                raise self.broken(f"client {client.number} (request {client.request_idx}) waits for ever: {why}")
            if self.truth.calm:
                self.require(client.stage is ClientStage.DONE, f"client {client.number} is {client.stage.value}")
