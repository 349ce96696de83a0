"""P14: after quiet, every table is back at its baseline. (That the same seed gives the same trace, runs twice show.)"""

from __future__ import annotations

from nullworker.simulation.watch import Checker


class Baseline(Checker):
    """Looks into the engine's tables, of which nothing may be left that grows."""

    promise = "P14"

    def at_rest(self) -> None:
        engine = self.world.box.engine
        if engine is None:
            return
        ledger = engine.ledger
        self.require(not ledger.reservations, f"reservations {sorted(ledger.reservations)} are left")
        self.require(not ledger.strangers, f"strangers {sorted(ledger.strangers)} are left")
        workers = len(ledger.workers)
        self.require(
            len(ledger.timers) <= 4 * workers + 2 * len(ledger.pools) + 4,
            f"{len(ledger.timers)} reminders are left for {workers} workers",
        )
        for pool in ledger.pools.values():
            tables = (pool.waiting, pool.young, pool.ages, pool.order)
            self.require(not any(tables), f"endpoint {pool.endpoint_id} has waiters left")
            self.require(len(pool.partly) <= 2 * workers + 65, f"endpoint {pool.endpoint_id}: partly has grown")
        for group_id, group in ledger.groups.items():
            self.require(not group.deleted or group.workers, f"workergroup {group_id} is deleted, and there")
