"""P14: after quiet, every table is back at its baseline. (That the same seed gives the same trace, runs twice show.)"""

from __future__ import annotations

from nullworker.simulation.observer import Checker


class Baseline(Checker):
    """Looks into the engine's tables, of which nothing may be left that grows."""

    promise = "P14"

    def at_rest(self) -> None:
        engine = self.truth.engine
        if engine is None:
            return
        state = engine.state
        self.require(not state.reservations, f"reservations {sorted(state.reservations)} are left")
        self.require(not state.unknown_instances, f"unknown instances {sorted(state.unknown_instances)} are left")
        workers = len(state.workers)
        self.require(
            len(state.timers) <= 4 * workers + 2 * len(state.endpoints) + 4,
            f"{len(state.timers)} reminders are left for {workers} workers",
        )
        for endpoint in state.endpoints.values():
            tables = (endpoint.line.waiting, endpoint.line.in_time, endpoint.line.overdue_next, endpoint.line.order)
            self.require(not any(tables), f"endpoint {endpoint.endpoint_id} has waiters left")
            self.require(
                len(endpoint.partly_free) <= 2 * workers + 65, f"endpoint {endpoint.endpoint_id}: partly has grown"
            )
        for group_id, group in state.workergroups.items():
            self.require(not group.deleted or group.workers, f"workergroup {group_id} is deleted, and there")
