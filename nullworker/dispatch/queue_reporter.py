"""Tells the engine what a dispatcher reads of its queues, for ``nullworker status``: nothing is decided by it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from nullworker.client.errors import ClientError
from nullworker.dispatch.job_names import shown
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.dispatch.binding import Binding
    from nullworker.dispatch.reservation_task import ReservationTask, Tools

log = logging.getLogger(__name__)

#: A change is told after so long, together with those that follow it.
PAUSE_S = 1.0
#: Without any change, so often: the reading gets older, and an engine that was restarted has forgotten it.
REPORT_EVERY_S = 10.0
_NAME_MAX = 200
_SENTENCE_MAX = 2_000
_WARNINGS_MAX = 50
_LABELS_MAX = 10_000


class QueueReporter:
    """Tells of the queues when something about them has changed, and now and then."""

    def __init__(self, tools: Tools, bindings: Sequence[Binding]) -> None:
        """Tells nothing yet: call `run`.

        Args:
            tools: what all reservations share: the client of the engine that is told, and the clock.
            bindings: the queues.
        """
        self._tools = tools
        self._bindings = bindings
        self._name = f"{socket.gethostname()[:150]} process {os.getpid()}"
        self._changed = asyncio.Event()
        self._untold: dict[int, dict[str, Any]] = {}  # what has got a job's name, by the request's number

    def changed(self) -> None:
        """Something may have changed."""
        self._changed.set()

    def named(self, binding: Binding, reservation: ReservationTask) -> None:
        """A job of a reservation is known. It is told even if the reservation is over by then."""
        held = reservation.client_reservation
        if held is not None and held.request_idx and len(self._untold) < _LABELS_MAX:
            self._untold[held.request_idx] = _label(binding, held.request_idx, reservation.jobs)
            self.changed()

    async def run(self) -> None:
        """Tells until it is cancelled; an engine that cannot be told is told later."""
        while True:
            self._changed.clear()
            labels, self._untold = self._labels(), {}
            try:
                queues = [report(binding) for binding in self._bindings]
                await self._tools.client.tell_queues(self._name, queues, labels)
            except ClientError as error:
                log.debug("the engine is not told of the queues: %s", error)
                self._untold = {**{each["request_idx"]: each for each in labels if each["job"]}, **self._untold}
            await self._tools.clock.sleep(PAUSE_S)
            waiting = [tasks.start(self._changed.wait()), tasks.start(self._sleep())]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waiting:
                    each.cancel()

    def _labels(self) -> list[dict[str, Any]]:
        """Which queue each held reservation is for, and which job: `nullworker.wire.types.LabelReport`."""
        labels = [
            _label(binding, held.request_idx, each.jobs)
            for binding in self._bindings
            for each in binding.reservations
            if (held := each.client_reservation) is not None and held.request_idx
        ]
        told = {each["request_idx"] for each in labels}
        over = [each for request_idx, each in self._untold.items() if request_idx not in told]
        return [*over, *labels][:_LABELS_MAX]

    async def _sleep(self) -> None:
        await self._tools.clock.sleep(REPORT_EVERY_S)


def _label(binding: Binding, request_idx: int, jobs: Sequence[str]) -> dict[str, Any]:
    return {"request_idx": request_idx, "queue": binding.queue[:_NAME_MAX], "job": shown(jobs)}


def report(binding: Binding) -> dict[str, Any]:
    """The fields of `nullworker.wire.types.QueueReport`."""
    status, depth = binding.status, binding.reading.depth if binding.reading else None
    return {
        "queue": binding.queue[:_NAME_MAX],
        "endpoint": binding.settings.endpoint,
        "waiting": status.waiting,
        "in_flight": status.in_flight,
        "delayed": depth.delayed if depth else None,
        "abandoned": status.abandoned,
        "paused": depth.paused if depth else False,
        "want": status.want,
        "asked": status.asked,
        "held": status.held,
        "doing": status.doing,
        "reason": status.reason[:_SENTENCE_MAX],
        "trouble": status.trouble[:_SENTENCE_MAX],
        "warnings": [warning.message[:_SENTENCE_MAX] for warning in status.warnings[:_WARNINGS_MAX]],
        "read_s_ago": binding.reading_age_s,
    }
