"""What one worker's messages may cost the engine: how often they come, how long they are, how much of them is kept.

Each message costs by its bytes. A worker that sends more than its share waits for its answer, and so sends the next one
later; one that goes on over further connections is refused for a while. Of what a message lists, all that the engine
knows of this worker is taken, and a little of the rest: enough to know that there is something else.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.engine.api.refusals import Allowance

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from nullworker.wire.types import FinishedRequest

#: What a worker's messages may cost at once, and in a second. A message costs 1, and as much for each `BYTES_EACH`.
COST_BURST, COST_PER_S = 1_000.0, 100.0
#: The end of a request that the worker was known to hold gives so much back: what a request brings (its end, and
#: reports before and after it) is bounded by what clients ask for, however short their jobs are.
END_GIVES_BACK = 5.0
BYTES_EACH = 4_096
#: A worker's messages wait for so long at most, and a long one costs no more than this.
WAIT_MAX_S = 2.0
DEBT_MAX_S = 10.0
#: Of sessions that a worker lists and that are not known of it, so many reach the core: more than it takes over at
#: once, so that it knows that there are more.
UNKNOWN_LISTED_MAX = limits.ADOPTED_AT_ONCE + 1
#: Of ends that a message tells of requests that the worker is not known to hold, so many are taken in.
UNKNOWN_ENDS_MAX = 1_000
#: And so many of one request that it holds: a client may have been sent there several times.
ENDS_OF_ONE_MAX = 8
#: That a message was refused is told to the core so often: at once, and then in a second.
REFUSED_BURST, REFUSED_PER_S = 20, 1.0
REMEMBERED_MAX = 50_000


class MessagePace:
    """How much each worker's messages have cost lately."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Takes ``now``, a monotonic clock."""
        self._now = now
        self._left: OrderedDict[int, tuple[float, float]] = OrderedDict()  # by worker: what is left, and since when
        self._refused: Allowance[int] = Allowance(REFUSED_BURST, REFUSED_PER_S, now)

    def wait_s(self, worker_id: int) -> float:
        """In how long a message of the worker's has its turn."""
        return max(0.0, -self._left_now(worker_id) / COST_PER_S)

    def take(self, worker_id: int, body_bytes: int) -> float:
        """A message of the worker's is taken in; returns in how many seconds."""
        wait_s = self.wait_s(worker_id)
        left = self._left_now(worker_id) - 1.0 - body_bytes / BYTES_EACH
        self._left[worker_id] = max(left, -DEBT_MAX_S * COST_PER_S), self._now()
        self._left.move_to_end(worker_id)
        if len(self._left) > REMEMBERED_MAX:
            self._left.popitem(last=False)
        return wait_s

    def give_back(self, worker_id: int, ends: int) -> None:
        """The worker told so many ends of requests that it was known to hold."""
        if worker_id in self._left:
            self._left[worker_id] = self._left_now(worker_id) + ends * END_GIVES_BACK, self._now()

    def tells_refusal(self, worker_id: int) -> bool:
        """Whether the core is to know that a message was refused: it does already, where there were many."""
        return self._refused.take(worker_id)

    def _left_now(self, worker_id: int) -> float:
        left, since = self._left.get(worker_id, (COST_BURST, 0.0))
        return min(COST_BURST, left + (self._now() - since) * COST_PER_S)


def listed_within(request_idxs: Sequence[int], known: Container[int]) -> tuple[int, ...]:
    """The sessions that a report lists: those that are known of its worker, and a few others; each once.

    Args:
        request_idxs: what it lists.
        known: what the engine has the worker hold.
    """
    if len(request_idxs) <= UNKNOWN_LISTED_MAX:
        return tuple(request_idxs)
    taken, unknown = [], 0
    for request_idx in dict.fromkeys(request_idxs):
        if request_idx not in known:
            unknown += 1
            if unknown > UNKNOWN_LISTED_MAX:
                continue
        taken.append(request_idx)
    return tuple(taken)


def ends_within(ends: Sequence[FinishedRequest], known: Container[int]) -> list[FinishedRequest]:
    """The ends that a message tells: of requests that are known of its worker, and some of others.

    Args:
        ends: what it tells, the oldest first.
        known: what the engine has the worker hold.
    """
    if len(ends) <= UNKNOWN_ENDS_MAX:
        return list(ends)
    taken, of_each, unknown = [], Counter[int](), 0
    for end in reversed(ends):  # of those that are not known, the newest
        of_each[end.request_idx] += 1
        if end.request_idx not in known or of_each[end.request_idx] > ENDS_OF_ONE_MAX:
            unknown += 1
            if unknown > UNKNOWN_ENDS_MAX:
                continue
        taken.append(end)
    return taken[::-1]
