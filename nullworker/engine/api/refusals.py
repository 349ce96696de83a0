"""What is refused, counted and bounded: wrong keys and tokens, wrong numbers of requests, calls beyond a share.

A caller with a good key is never refused for what others at its address do: the bound changes only what a wrong one is
answered (429 instead of 401), and how it is logged: once in a while, with the number. Numbers of requests are short
enough to be guessed, so beyond the bound a right one counts only from the address that it was given to.
"""

from __future__ import annotations

import enum
import ipaddress
import logging
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from nullworker.wire.errors import TooManyError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

log = logging.getLogger(__name__)

KeyT = TypeVar("KeyT", bound="Hashable")

#: So many wrong keys at once are told that they are wrong, and then one a second, for each address.
WRONG_KEYS_BURST, WRONG_KEYS_PER_S = 100, 1.0
#: So many connections at once, and then in a second, of an address that floods: that has sent too many wrong keys, or
#: too much else without a good key that was refused.
ENTRIES_BURST, ENTRIES_PER_S = 20, 20.0
#: An address is taken for one that floods for so long after the last one that was too many.
FLOOD_S = 10.0
#: Likewise numbers of requests, for each endpoint and address: with a million numbers to try, a hit takes years.
WRONG_NUMBERS_BURST, WRONG_NUMBERS_PER_S = 20, 1 / 60
#: Addresses and numbers that are remembered; the oldest are forgotten first.
REMEMBERED_MAX = 50_000
#: Refusals of one kind are logged once in so long.
LOG_EVERY_S = 10.0


class Kind(enum.Enum):
    """What was refused."""

    KEY = "wrong_keys"
    NUMBER = "wrong_request_numbers"
    CONNECTION = "connections"
    WAITER = "waiters"
    LISTED = "unknown_sessions"
    END = "unknown_ends"
    MESSAGE = "worker_messages"


class Allowance(Generic[KeyT]):
    """How much each key may still do: ``burst`` at once, and ``per_s`` after that. Keys that are forgotten are new."""

    def __init__(self, burst: int, per_s: float, now: Callable[[], float]) -> None:
        """Takes its figures.

        Args:
            burst: at once.
            per_s: after that.
            now: a monotonic clock.
        """
        self._burst = burst
        self._per_s = per_s
        self._now = now
        self._left: OrderedDict[KeyT, tuple[float, float]] = OrderedDict()  # what is left, and since when

    def left(self, key: KeyT) -> float:
        """How much it may do now."""
        left, since = self._left.get(key, (float(self._burst), 0.0))
        return min(self._burst, left + (self._now() - since) * self._per_s)

    def take(self, key: KeyT) -> bool:
        """Takes one; whether it was there."""
        left = self.left(key)
        enough = left >= 1.0
        self._left[key] = (left - 1.0 if enough else left, self._now())
        self._left.move_to_end(key)
        if len(self._left) > REMEMBERED_MAX:
            self._left.popitem(last=False)
        return enough

    def wait_s(self, key: KeyT) -> float:
        """In how long it may do one more."""
        return max(0.0, 1.0 - self.left(key)) / self._per_s


class Refusals:
    """Counts what is refused, and says when it is too much."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Takes ``now``, a monotonic clock."""
        self._now = now
        self._keys: Allowance[str] = Allowance(WRONG_KEYS_BURST, WRONG_KEYS_PER_S, now)
        self._useless: Allowance[str] = Allowance(WRONG_KEYS_BURST, WRONG_KEYS_PER_S, now)
        self._entries: Allowance[str] = Allowance(ENTRIES_BURST, ENTRIES_PER_S, now)
        self._flooded_at: OrderedDict[str, float] = OrderedDict()  # by address, the latest last
        self._numbers: Allowance[tuple[int, str]] = Allowance(WRONG_NUMBERS_BURST, WRONG_NUMBERS_PER_S, now)
        self._given: OrderedDict[int, str] = OrderedDict()  # to which address a number was given
        self._logged: dict[Kind, tuple[float, int]] = {}  # when, and how many by then
        #: How many of each kind there were since the start.
        self.counts: Counter[Kind] = Counter()

    def wrong_key(self, address: str) -> None:
        """A call had a wrong key or token.

        Raises:
            TooManyError: as have many from its address.
        """
        self.count(Kind.KEY, address)
        block = block_of(address)
        if not self._keys.take(block):
            self._floods(block)
            raise TooManyError(
                "Too many wrong keys came from this address; correct the key, and try again later.",
                self._keys.wait_s(block),
            )

    def useless(self, block: str) -> None:
        """A call over a connection that has shown no good key was refused, for whatever reason."""
        if not self._useless.take(block):
            self._floods(block)

    def _floods(self, block: str) -> None:
        self._flooded_at[block] = self._now()
        self._flooded_at.move_to_end(block)
        if len(self._flooded_at) > REMEMBERED_MAX:
            self._flooded_at.popitem(last=False)

    @property
    def is_flooded(self) -> bool:
        """Whether any address floods."""
        return bool(self._flooded_at) and self._now() - next(reversed(self._flooded_at.values())) < FLOOD_S

    def may_enter(self, block: str) -> bool:
        """Whether a new connection of an address, none of whose connections has shown a good key, is served."""
        at = self._flooded_at.get(block)
        return at is None or self._now() - at >= FLOOD_S or self._entries.take(block)

    def wrong_number(self, endpoint_id: int, address: str) -> None:
        """A call with an endpoint's key showed a number that no request has.

        Raises:
            TooManyError: as have many from its address.
        """
        self.count(Kind.NUMBER, address)
        whose = endpoint_id, block_of(address)
        if not self._numbers.take(whose):
            raise self._too_many_numbers(whose)

    def check_number(self, endpoint_id: int, request_idx: int, address: str) -> None:
        """A call shows a number that a request has.

        Raises:
            TooManyError: its address has shown too many wrong ones, and was not given this one.
        """
        whose = endpoint_id, block_of(address)
        if self._numbers.left(whose) < 1.0 and self._given.get(request_idx) != address:
            self.count(Kind.NUMBER, address)
            raise self._too_many_numbers(whose)

    def gave_number(self, request_idx: int, address: str) -> None:
        """A call was given the number of its request."""
        self._given[request_idx] = address
        if len(self._given) > REMEMBERED_MAX:
            self._given.popitem(last=False)

    def _too_many_numbers(self, whose: tuple[int, str]) -> TooManyError:
        return TooManyError(
            "Too many wrong request_idx came from this address; begin with 0.", self._numbers.wait_s(whose)
        )

    def by_kind(self) -> dict[str, int]:
        """How many of each kind there were, for metrics."""
        return {kind.value: self.counts[kind] for kind in Kind}

    def count(self, kind: Kind, address: str, many: int = 1) -> None:
        """Counts a refusal, and logs it if the last one of its kind was logged a while ago.

        Args:
            kind: what was refused.
            address: whose it was.
            many: how many were.
        """
        self.counts[kind] += many
        at, before = self._logged.get(kind, (-LOG_EVERY_S, 0))
        if self._now() - at >= LOG_EVERY_S:
            self._logged[kind] = (self._now(), self.counts[kind])
            log.warning(
                "refused: %s, the latest from %s (%d since it was last said, %d in all)",
                kind.value.replace("_", " "),
                address or "an unknown address",
                self.counts[kind] - before,
                self.counts[kind],
                extra={"action": "refused"},
            )


def block_of(address: str) -> str:
    """What is counted as one address: of IPv6, the /64 that a site is given; of the rest, the address."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else parsed.packed[:8].hex()
