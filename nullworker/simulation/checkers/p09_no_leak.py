"""P9: every instance that bears our mark is known or destroyed in bounded time, and one that is not known is given a
grace; none that does not bear it is ever touched; every grant is confirmed, refused or expired in bounded time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.commands import Destroy
from nullworker.core.reservation import Stage
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.truth import Truth

#: A grant is answered twice at most, kept between two polls, and lasts so long each time.
GRANT_MAX_S = 2 * (limits.GRANT_TTL_S + limits.GRANT_REPORT_S) + limits.POLL_GRACE_S + 10.0
_EVERY = 64


class NoLeak(Checker):
    """Orders as they go out; grants now and then; the fleet at rest."""

    promise = "P9"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        self._unknown: dict[int, float] = {}  # instances that the engine does not know -> when it first heard so

    def ordered(self, verb: str, worker_id: int, endpoint_id: int) -> None:  # noqa: ARG002 - a hook
        self.require(
            worker_id in self.evidence.known_ids,
            f"{verb} of instance {worker_id}, which was never ours and never listed under our mark",
        )

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        self._grace(engine, event, decided)
        if self.truth.events % _EVERY or self.truth.clock_was_changed:
            return
        now = engine.state.now
        for reservation in engine.state.reservations.values():
            if reservation.stage is Stage.GRANTED:
                age_s = now - reservation.granted_at
                self.require(
                    age_s <= GRANT_MAX_S or engine.state.listening.quiet_until > now,
                    f"request {reservation.request_idx} is granted for {age_s:.0f} s and not confirmed",
                )

    def _grace(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if isinstance(event, events.Restored):
            self._unknown.clear()  # another engine
        if not isinstance(event, events.FleetListed):
            return
        now, known = engine.state.now, engine.state.workers
        for worker_id, _ in event.instances:
            if worker_id in known:
                self._unknown.pop(worker_id, None)
            else:
                self._unknown.setdefault(worker_id, now)
        for command in decided:
            if isinstance(command, Destroy) and command.worker_id not in known:
                age_s = now - self._unknown.get(command.worker_id, now)
                self.require(
                    age_s >= limits.LIST_LAG_S,
                    f"instance {command.worker_id} is destroyed {age_s:.0f} s after it was found to be unknown",
                )

    def at_rest(self) -> None:
        engine = self.truth.engine
        self.require(engine is not None, "the engine is down")
        if engine is None:
            return
        known = {worker.worker_id for worker in engine.state.workers.values() if worker.owned}
        there = set(self.truth.instances)
        self.require(there <= known, f"instances {sorted(there - known)} run, and the engine does not know them")
        self.require(known <= there, f"workers {sorted(known - there)} are known, and are not there")
        held = [p.worker_id for p in self.truth.processes() if p.sessions]
        self.require(not held, f"workers {held} hold sessions of clients that are gone")
