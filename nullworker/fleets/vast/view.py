"""The account's instances that bear one mark: asked for once for all workers, and not more often than needed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.fleets.vast.rows import row_of
from nullworker.wire import tasks

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from nullworker.fleets.vast.rest import VastApi
    from nullworker.fleets.vast.rows import Row


@dataclass(frozen=True, slots=True)
class Instances:
    """The instances at one moment."""

    asked_at: float  # of the event loop's clock, before Vast was asked
    by_id: Mapping[int, Row]

    def labelled(self, label: str) -> Row | None:
        """The instance with a label; None: there is none."""
        return next((row for row in self.by_id.values() if row.label == label), None)


class InstancesView:
    """The instances whose labels fit a pattern, as Vast lists them."""

    def __init__(self, api: VastApi, pattern: re.Pattern[str], period_s: float, worker_port: int) -> None:
        """Takes what it uses.

        Args:
            api: is asked.
            pattern: of the labels; its first group is the worker's number.
            period_s: how old a view may be.
            worker_port: the port that workers listen on inside.
        """
        self._api = api
        self._pattern = pattern
        self._period_s = period_s
        self._worker_port = worker_port
        self._view: Instances | None = None
        self._asking: asyncio.Task[Instances] | None = None

    async def view(self, newer_than: float | None = None) -> Instances:
        """The present view: Vast is asked if the latest is too old; one question serves all.

        Args:
            newer_than: it has to be asked for after this time of the event loop; None: as the period says.

        Raises:
            FleetError: Vast does not answer.
        """
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._period_s if newer_than is None else newer_than
        while self._view is None or self._view.asked_at <= oldest:
            if self._asking is None or self._asking.done():
                self._asking = tasks.start(self._ask(loop.time()))
            await asyncio.shield(self._asking)
        return self._view

    def close(self) -> None:
        """Asks no more."""
        if self._asking is not None:
            self._asking.cancel()

    def worker_of(self, label: str) -> int:
        """The worker that a label is of; 0: it is none of ours."""
        match = self._pattern.fullmatch(label)
        return int(match[1]) if match else 0

    async def _ask(self, now: float) -> Instances:
        rows = [row_of(raw, self._worker_port) for raw in await self._api.instances()]
        ours = {row.contract_id: row for row in rows if row is not None and self._pattern.fullmatch(row.label)}
        self._view = Instances(now, ours)
        return self._view
