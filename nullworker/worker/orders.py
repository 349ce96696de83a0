"""What an engine asks of its worker in the answer to a report: to extend what is held, or to end it.

An order comes again with each answer until the worker's report says that it is done, and is carried out once.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from nullworker.wire import tasks
from nullworker.worker.place_notice import PlaceNotice
from nullworker.worker.release import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.worker.release import Releaser
    from nullworker.worker.sessions import HeldSession, SessionTable

log = logging.getLogger(__name__)

#: So many that are done are told of in each report.
DONE_TOLD = 16
EXTEND_MAX_S = 30 * 86_400.0


class Orders:
    """Carries out orders; what came of them goes into reports.

    Args:
        sessions: what holds the worker.
        releaser: ends sessions.
        wake: has a report go out.
    """

    def __init__(self, sessions: SessionTable, releaser: Releaser, wake: Callable[[], None]) -> None:
        self._sessions = sessions
        self._releaser = releaser
        self._wake = wake
        #: What the answers say of the worker's end by its place.
        self.place = PlaceNotice()
        self._seen: deque[int] = deque(maxlen=100)
        self._done: deque[dict[str, Any]] = deque(maxlen=DONE_TOLD)
        #: What the consumer says that its session is for, by request.
        self._jobs: dict[int, str] = {}
        self._over: set[int] = set()  # requests whose session has closed: their jobs are told once more
        self._telling: set[int] = set()
        sessions.on_close.append(self._closed)

    def told(self) -> dict[str, Any]:
        """The fields of a report."""
        self._telling = self._over & self._jobs.keys()
        jobs = [{"request_idx": number, "job": job} for number, job in self._jobs.items()]
        return {"orders_done": list(self._done), **({"jobs": jobs} if jobs else {})}

    def job(self, session: HeldSession, job: str) -> None:
        """The consumer says what its session is for."""
        self._jobs[session.request_idx] = job
        self._wake()

    def _closed(self, session: HeldSession) -> None:
        if session.request_idx in self._jobs:
            self._over.add(session.request_idx)

    def take(self, answer: object) -> None:
        """Takes in the answer to a report; what is no order, and no notice of the place's, is passed over."""
        self.place.take(answer)
        for request_idx in self._telling:
            self._jobs.pop(request_idx, None)
        self._over -= self._telling
        self._telling = set()
        listed = answer.get("orders") if isinstance(answer, dict) else None
        for order in listed if isinstance(listed, list) else []:
            number = order.get("id") if isinstance(order, dict) else None
            if isinstance(number, int) and number not in self._seen:
                self._seen.append(number)
                self._carry_out(number, order)

    def _carry_out(self, number: int, order: dict[str, Any]) -> None:
        session = self._sessions.of_request(order.get("request_idx", 0))
        act, seconds = order.get("act"), order.get("seconds")
        if session is None:
            self._finished(number, f"The worker does not hold request {order.get('request_idx')} any more.")
        elif act == "end":
            tasks.watch(self._end(number, session), "Ending a session for an operator")
        elif act == "extend" and isinstance(seconds, (int, float)) and 0 < seconds <= EXTEND_MAX_S:
            left_s = session.extend_for(float(seconds))
            log.info("an operator has request %d held for %.0f s from now", session.request_idx, left_s)
            short = left_s < seconds - 1
            self._finished(number, f"It is held for {left_s:.0f} s from now: it may get no older." if short else "")
        else:
            self._finished(number, "The worker knows no such order.")

    async def _end(self, number: int, session: HeldSession) -> None:
        log.info("an operator ends request %d", session.request_idx)
        try:
            await self._releaser.release(session)
        except ReleaseError as error:
            self._finished(number, str(error))
        else:
            self._finished(number, "")

    def _finished(self, number: int, refusal: str) -> None:
        self._done.append({"id": number, "refusal": refusal})
        self._wake()
