"""What a dispatcher tells the engine of its queues: on each change, at most once a second, and now and then."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.client.errors import EngineUnreachableError
from nullworker.dispatch.queue_reporter import PAUSE_S, REPORT_EVERY_S, QueueReporter, report
from nullworker.queues.base import QueueInfo, QueueWarning
from nullworker.wire.types import LabelReport, QueueReport
from tests.unit.dispatch.harness import ScriptedClient, settle

if TYPE_CHECKING:
    from tests.unit.dispatch.harness import DispatchHarness


class ListeningClient(ScriptedClient):
    """Takes what it is told, or does not."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[list[dict[str, Any]]] = []
        self.labels: list[dict[str, Any]] = []
        self.heard: list[list[dict[str, Any]]] = []  # labels, by calls that were answered
        self.answers = True

    async def tell_queues(
        self, _dispatcher: str, queues: list[dict[str, Any]], labels: list[dict[str, Any]] | None = None
    ) -> None:
        self.told.append(queues)
        self.labels = labels or []
        if not self.answers:
            raise EngineUnreachableError("here", "connection refused")
        self.heard.append(self.labels)


async def test_it_tells_of_changes_at_most_once_a_second_and_without_any_now_and_then(
    harness: DispatchHarness,
) -> None:
    client = ListeningClient()
    harness.client = client
    reporter = QueueReporter(harness.tools, [harness.binding()])
    running = asyncio.ensure_future(reporter.run())
    await settle()
    assert len(client.told) == 1
    for _ in range(5):
        reporter.changed()
        await settle()
    assert len(client.told) == 1
    await harness.time.go(PAUSE_S)
    assert len(client.told) == 2
    client.answers = False  # the engine is restarted
    await harness.time.go(PAUSE_S + REPORT_EVERY_S)
    assert len(client.told) == 3
    await harness.time.go(PAUSE_S + REPORT_EVERY_S)
    assert len(client.told) == 4
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_report_has_what_was_read_what_is_believed_and_the_warnings(
    harness: DispatchHarness,
) -> None:
    binding = harness.binding(queue="redis://:secret@host/0?list=jobs")
    assert msgspec.convert(report(binding), QueueReport).waiting is None
    binding.info = QueueInfo("redis", "jobs", "here", warnings=(QueueWarning("no-lease", "Add &lease=."),))
    await harness.held(binding, 2)
    harness.time.wall_s += 3.0
    harness.time.now_s += 3.0
    told = msgspec.convert(report(binding), QueueReport)
    assert (told.waiting, told.in_flight, told.abandoned, told.want, told.held) == (2, 0, 0, 2, 2)
    assert told.doing == {"loading": 2}
    assert told.warnings == ["Add &lease=."]
    assert told.read_s_ago == 3.0
    assert "secret" not in told.queue
    labels = QueueReporter(harness.tools, [binding])._labels()
    assert [msgspec.convert(each, LabelReport) for each in labels] == 2 * [LabelReport(17, told.queue)]
    await harness.end(binding)
