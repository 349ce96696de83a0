"""Worlds that broke a promise once, each with what was wrong."""

from __future__ import annotations

import pytest

from nullworker.simulation.run import run


@pytest.mark.parametrize(
    ("seed", "scenario"),
    [
        # After a refusal an old report of the stock framework, which had no number, made its worker free again.
        (1019587, "network-stock"),
        (1022067, "network-stock"),
        (1022338, "everything"),
        # A session that a late report brought back and one that came and went between two reports were taken for two at
        # a time: the worker was believed to hold two from then on.
        (1026559, "everything-stock"),
        # Sent to its worker for the third time, a client had its second session there when the refusal of its second
        # attempt was told, and then the end of its first session: the worker was taken for free, and destroyed.
        (1016387, "network-stock"),
        # An old report of the stock framework listed a session that had ended. Its request had been given the same
        # worker again, so that was taken for the new session, and the request was given a second worker.
        (1008777, "learns"),
        # A report of the stock framework, of a process before its worker was stopped and started again, counted more
        # requests than the new one's and was believed.
        (1010599, "everything-stock"),
        # A worker that had been silent when it was stopped stayed under suspicion.
        (1008918, "everything"),
        # What the checkers saw wrong: a grant that had run out before the engine stood still bound again after it; a
        # report made after a grant's end freed nobody; who was told his number a moment ago was not counted; a long
        # queue of long jobs was taken for a standstill; a grant that had run out 0.1 ms ago was to be known as such.
        (1015667, "network-stock"),
        (1022919, "everything-stock"),
        (1024399, "everything-stock"),
        (1027359, "everything-stock"),
        (1003328, "restarts"),
        (1003608, "restarts"),
        (1006048, "restarts"),
        (1008748, "restarts"),
        (1002285, "queue"),
        # After a restart a late report listed a session that had ended: a worker was created for the one in doubt.
        (1017968, "restarts"),
        (1020688, "restarts"),
        # Two restarts in a short time: sessions that had ended stood for grants that nobody had made, and a worker was
        # created beside those that were free in truth.
        (1003448, "restarts"),
        # A report that had been under way for longer than a grant lasts said that a session had ended, whose client had
        # been sent to the worker again meanwhile: the worker was destroyed under its new session.
        (1003248, "restarts"),
        # A worker turned out to hold another's session after it was granted; as it was in doubt, the waiter that asked
        # again was sent there a second time.
        (1002819, "everything-stock"),
        (1004767, "network-stock"),
        # A report of a worker's process before its stop came late, bore a higher number than those of the process
        # after its start, and was believed: the worker was stopped under a session.
        (1000918, "everything"),
        # The engine stood still until its latest answer had run out, and took the first report that came in then for
        # the newest: it gave the worker to another, whose session may have been in the next.
        (1001308, "restarts"),
        # After a restart a late report listed a session that had ended. The worker was believed to have no room for the
        # request that it was granted to, which was given another.
        (1001148, "restarts"),
    ],
)
def test_a_world_that_broke_a_promise_once_breaks_none(seed: int, scenario: str) -> None:
    result = run(seed, scenario)
    assert result.failure is None, f"\n{result.failure}"
