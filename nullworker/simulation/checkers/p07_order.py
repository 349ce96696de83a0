"""P7: first come, first served within an endpoint; a waiter whose grant did not take keeps its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Grant, Refuse
from nullworker.core.driver import TIMER_SLACK_S
from nullworker.simulation.checkers.evidence import RAN_OUT
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core import events
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.hooks import Call
    from nullworker.simulation.truth import Truth


class Order(Checker):
    """Looks at each first answer: no request that came before may still be held open with no worker granted.

    And no request that is held open is dropped without an answer.
    """

    promise = "P7"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        self._endpoint: dict[int, int] = {}
        self._granted: set[tuple[int, int]] = set()
        self._asking: int = 0
        self._started = 0.0  # the engine, by its clock
        self._ledger_was_lost = False

    def ledger_lost(self) -> None:
        self._ledger_was_lost = True  # and with it the order in which they came

    def engine_started(self) -> None:
        self._started = self.truth.clock

    def asked(self, request_idx: int, endpoint_id: int, call: Call) -> None:  # noqa: ARG002 - a hook
        self._endpoint[request_idx] = endpoint_id
        self._asking = request_idx

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        self._none_is_dropped(engine, event, decided)
        grants = [command for command in decided if isinstance(command, Grant)]
        asking, self._asking = self._asking, 0
        if not grants:
            return
        now_granted = {grant.request_idx for grant in grants}
        for grant in grants:
            key = (grant.request_idx, grant.worker_id)
            again = key in self._granted
            self._granted.add(key)
            # One that asks by itself may be answered with what was kept for it between two polls.
            if again or grant.request_idx == asking or self.evidence.lists(grant.worker_id, grant.request_idx):
                continue
            for request_idx in () if self._ledger_was_lost else self.truth.calls:
                if (
                    request_idx < grant.request_idx
                    and request_idx not in now_granted
                    and self._endpoint[request_idx] == grant.endpoint_id
                    and self._has_nothing(request_idx)
                ):
                    before = self.evidence.grants.get(request_idx)
                    why = f" (worker {before.worker_id}: {before.closed})" if before is not None else ""
                    raise self.broken(f"request {grant.request_idx} is served before {request_idx}, which waits{why}")

    def _none_is_dropped(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        calls, known = self.truth.calls, engine.state.reservations
        for request_idx in engine.state.changed_reservations:
            if request_idx in calls and request_idx not in known:
                answers = (c for c in decided if isinstance(c, (Grant, Refuse)))
                self.require(
                    any(answer.request_idx == request_idx for answer in answers),
                    f"request {request_idx}, which waits on the line, is forgotten by a {type(event).__name__}",
                )

    def _has_nothing(self, request_idx: int) -> bool:
        promise = self.evidence.grants.get(request_idx)
        # What may excuse a second grant (a list that does not show the worker) need not have convinced the engine.
        if promise is None:
            return True
        # One that was used has taken, and the place is spent, though the engine may learn so late, or by a sign of life
        # alone. Its client comes back for that session, which a restarted engine may have to wait for reports of.
        if promise.used:
            return False
        # It is woken for what is due a little late, and another event may come first; so also when it stood still, for
        # what came meanwhile is read first. An engine that was started since does not know when the grant was answered,
        # and counts from its start.
        runs_out = max(promise.answered_at, self._started) + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
        noticed_at = max(runs_out, self.truth.away_until + limits.GRANT_REPORT_S) + TIMER_SLACK_S
        return not self.evidence.binds(promise) and promise.closed == RAN_OUT and self.truth.clock >= noticed_at
