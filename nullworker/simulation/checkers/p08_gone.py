"""P8: a waiter that has gone is forgotten within `replay_timeout`, and nothing is created for it after that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.driver import HOLD_S
from nullworker.core.reservation import Stage
from nullworker.simulation.clients import REPLAY_TIMEOUT_S
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.clients import Client

#: The last hold, a message on its way, a grant that was kept for the next poll.
SLACK_S = HOLD_S + 20.0 + limits.POLL_GRACE_S


class Gone(Checker):
    """Looks at once after a waiter's connection broke, and again when its time is up."""

    promise = "P8"

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:  # noqa: ARG002 - a hook
        if isinstance(event, events.WaiterGone):
            reservation = engine.state.reservations.get(event.request_idx)
            self.require(
                reservation is None or reservation.stage is not Stage.WAITING,
                f"request {event.request_idx} waits on after its client has gone",
            )

    def client_over(self, client: Client) -> None:
        # One that never heard an answer does not know its number, and the engine remembers it all the same.
        request_idx = client.known_as
        if request_idx and client.held_at is None:
            self.truth.later(REPLAY_TIMEOUT_S + SLACK_S, self._forgotten, request_idx, self.truth.generation)

    def _forgotten(self, request_idx: int, generation: int) -> None:
        truth = self.truth
        if truth.engine is None or truth.generation != generation or truth.paused_until > truth.now - SLACK_S:
            return
        reservation = truth.engine.state.reservations.get(request_idx)
        if reservation is not None and reservation.stage is Stage.WAITING and not self.truth.half_open:
            silent_s = truth.engine.state.now - reservation.seen_at
            self.require(
                silent_s < REPLAY_TIMEOUT_S + 1,
                f"request {request_idx} waits on, {silent_s:.0f} s after its client's last call",
            )
