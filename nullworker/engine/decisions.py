"""Why it did what it did: every command of the core, kept with its reason, to be read at four levels or as a story.

info0: the fleet's size changed. info1: and workers' lives. trace: and who was granted what. debug: and all else.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core.commands import Create, Destroy, Grant, Note, Refuse, Start, Stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from nullworker.core.commands import Command

#: Decisions kept in memory; the store keeps more.
KEPT = 20_000

#: Of what a worker's own words lead to, so much is kept at once, and so much in a second, of each worker.
LINES_BURST, LINES_PER_S = 100, 1.0
#: So many workers are counted; the rest count from the beginning.
_WORKERS_COUNTED_MAX = 10_000

LEVELS = ("info0", "info1", "trace", "debug")

#: What a worker's messages alone can lead to, as often as they come.
_OF_ITS_WORDS = frozenset({"worker_ready", "worker_counts_anew", "report_refused", "sessions_left_out"})

_NOTE_LEVELS = {
    "workergroup_backs_off": 0,
    "endpoint_deleted": 0,
    "restored": 0,
    "left_running": 0,
    "unknown_instance_kept": 1,
    "worker_ready": 1,
    "worker_failed": 1,
    "worker_joined": 1,
    "worker_counts_anew": 1,
    "order_failed": 1,
    "session_lost": 1,
    "sessions_left_out": 1,
    "lines_left_out": 1,
    "session_adopted": 2,
    "session_ended": 2,
    "grant_refused": 2,
    "grant_expired": 2,
    "waiter_gone": 2,
    "waiter_forgotten": 2,
}


class Decision(NamedTuple):
    """One decision: why (a code, and the same in words and numbers), and the number of the event that led to it."""

    at_s: float  # Unix time
    event_number: int
    kind: str
    endpoint_id: int
    worker_id: int
    request_idx: int
    cause: str  # a value of nullworker.core.causes.Cause; "" in what was decided before there were causes
    reason: str

    @property
    def level(self) -> int:
        """Index into LEVELS."""
        if self.kind in ("create", "start", "stop", "destroy"):
            return 0
        if self.kind in ("grant", "refuse"):
            return 2
        return _NOTE_LEVELS.get(self.kind, 3)


class LineLimit:
    """Which notes of what workers say of themselves are kept: those about one do not drive out the rest."""

    def __init__(self) -> None:
        self._left: OrderedDict[int, tuple[float, float]] = OrderedDict()  # by worker: what is left, and since when
        self._left_out: Counter[int] = Counter()  # by worker: notes since the last one that was kept

    def passed(self, commands: Iterable[Command], at_s: float) -> Iterator[Command]:
        """Those that are kept. Before one after a gap comes a note of how many there were."""
        for command in commands:
            if not isinstance(command, Note) or command.kind not in _OF_ITS_WORDS:
                yield command
            elif not self._takes(command.worker_id, at_s):
                self._left_out[command.worker_id] += 1
            else:
                left_out = self._left_out.pop(command.worker_id, 0)
                if left_out:
                    sentence = f"{left_out} lines about worker {command.worker_id} are left out: it has too many"
                    yield replace(command, kind="lines_left_out", reason=sentence)
                yield command

    def _takes(self, worker_id: int, at_s: float) -> bool:
        left, since_s = self._left.get(worker_id, (float(LINES_BURST), at_s))
        left = min(LINES_BURST, left + max(0.0, at_s - since_s) * LINES_PER_S)
        self._left[worker_id] = (left - 1.0 if left >= 1.0 else left), at_s
        self._left.move_to_end(worker_id)
        if len(self._left) > _WORKERS_COUNTED_MAX:
            forgotten, _ = self._left.popitem(last=False)
            self._left_out.pop(forgotten, None)
        return left >= 1.0


class Decisions:
    """The latest decisions of an engine, oldest first."""

    def __init__(self, endpoint_of: Callable[[int], int]) -> None:
        """``endpoint_of`` gives a worker's endpoint id (0: unknown)."""
        self._kept: deque[Decision] = deque(maxlen=KEPT)
        self._endpoint_of = endpoint_of
        #: Counts what was added.
        self.count = 0
        #: The same by kind and cause, since the engine started.
        self.counts: Counter[tuple[str, str]] = Counter()

    def add(self, command: Command, at_s: float) -> Decision:
        """Keeps one command as the decision that it is."""
        decision = self._decision(command, at_s)
        self._kept.append(decision)
        self.count += 1
        self.counts[decision.kind, decision.cause] += 1
        return decision

    def keep(self, decisions: Iterable[Decision]) -> None:
        """Takes over what an engine before this one decided."""
        self._kept.extend(decisions)

    def _decision(self, command: Command, at_s: float) -> Decision:
        if isinstance(command, Note):
            ids = (command.endpoint_id, command.worker_id, command.request_idx)
            return Decision(at_s, command.event_number, command.kind, *ids, command.cause.value, command.reason)
        if isinstance(command, (Grant, Refuse)):
            worker_id = command.worker_id if isinstance(command, Grant) else 0
            kind = type(command).__name__.lower()
            ids = (command.endpoint_id, worker_id, command.request_idx)
            return Decision(at_s, command.event_number, kind, *ids, command.cause.value, command.reason)
        assert isinstance(command, (Create, Start, Stop, Destroy))
        endpoint_id = self._endpoint_of(command.worker_id)
        kind = type(command).__name__.lower()
        ids = (endpoint_id, command.worker_id, 0)
        return Decision(at_s, command.event_number, kind, *ids, command.cause.value, command.reason)

    def latest(self) -> Iterator[Decision]:
        """All that are kept, the latest first; to be read to its end before anything else is decided."""
        return reversed(self._kept)

    def about(
        self,
        *,
        endpoint_id: int = 0,
        worker_id: int = 0,
        worker_ids: frozenset[int] = frozenset(),
        request_idx: int = 0,
    ) -> list[Decision]:
        """All that is kept of one endpoint, worker, set of workers or request, oldest first.

        Args:
            endpoint_id: of this endpoint; 0: of any.
            worker_id: of this worker; 0: of any.
            worker_ids: of these workers; empty: of any.
            request_idx: of this request; 0: of any.
        """
        return [
            d
            for d in self._kept
            if (not endpoint_id or d.endpoint_id == endpoint_id)
            and (not worker_id or d.worker_id == worker_id)
            and (not worker_ids or d.worker_id in worker_ids)
            and (not request_idx or d.request_idx == request_idx)
        ]
