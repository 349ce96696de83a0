"""The arithmetic of costs: price times time, in whole numbers, and rounded so that rows sum up to the whole.

The formula. A worker that is in one state for ``t`` microseconds, at a price of ``p`` billionths of the currency an
hour (`nullworker.views.billing`), costs ``t * p`` units, of which ``UNITS`` = 3,600,000,000 * 10^9 make one of the
currency. Units are whole numbers and never rounded: sums of them are exact, whatever they are grouped by. A time that
several reservations share is divided among them in whole microseconds, the first ones getting one more where it does
not divide.

Rounding happens once, when a table is made, to 1/10,000 of the currency (a hundredth of a cent):

1. the whole is rounded, half of one up;
2. each kind of cost gets its units rounded down; what is missing to the whole goes, one each, to the kinds with the
   largest remainders;
3. within each kind, the rows get theirs in the same way from that kind's amount.

So rows sum up to the whole exactly, and the amounts of the kinds are the same whatever the rows are. An amount in a row
is off by less than 1/10,000 from its exact value; a row's total by less than five times that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

US = 1_000_000
HOUR_US = 3_600 * US
#: So many units are one of the currency.
UNITS = HOUR_US * 10**9
PLACES = 4
#: So many units are the least amount that is shown.
QUANTUM: int = UNITS // 10**PLACES

#: What a worker's running was for. Storage is apart, whatever it was for.
HELD, BOOT, IDLE, OTHER, STORAGE = "held", "boot", "idle", "other", "storage"
KINDS = (HELD, BOOT, IDLE, OTHER, STORAGE)


class Amounts(NamedTuple):
    """Units by kind, and the time that they are for."""

    held: int = 0
    boot: int = 0
    idle: int = 0
    other: int = 0
    storage: int = 0
    worker_us: int = 0
    held_us: int = 0


def amounts(kind: str, us: int, running: int, storage: int) -> Amounts:
    """What some time costs.

    Args:
        kind: what it was for, one of `KINDS` but storage.
        us: how long it was, in microseconds.
        running: the price of a running machine, in 10^-9 of the currency an hour.
        storage: the price of its storage, likewise.
    """
    cost = us * running
    return Amounts(
        cost if kind == HELD else 0,
        cost if kind == BOOT else 0,
        cost if kind == IDLE else 0,
        cost if kind == OTHER else 0,
        us * storage,
        us,
        us if kind == HELD else 0,
    )


def added(one: Amounts, other: Amounts) -> Amounts:
    """The sum of two."""
    return Amounts(*(a + b for a, b in zip(one, other, strict=True)))


def shares(us: int, parts: int) -> list[int]:
    """A time divided among so many, in whole microseconds."""
    each, left = divmod(us, parts)
    return [each + (number < left) for number in range(parts)]


def by_hour(from_us: int, until_us: int) -> Iterator[tuple[int, int]]:
    """A time, as the hours (since 1970) that it lies in, each with its part of it."""
    while from_us < until_us:
        hour = from_us // HOUR_US
        end_us = min(until_us, (hour + 1) * HOUR_US)
        yield hour, end_us - from_us
        from_us = end_us


class Table(NamedTuple):
    """Rounded amounts, in 1/10,000 of the currency, by row and kind."""

    rows: dict[str, dict[str, int]]
    kinds: dict[str, int]
    whole: int


def table(rows: Mapping[str, Amounts]) -> Table:
    """Rounds a table as the module says."""
    names = list(rows)
    exact = {kind: [getattr(rows[name], kind) for name in names] for kind in KINDS}
    units = [sum(exact[kind]) for kind in KINDS]
    whole = rounded(sum(units))
    kinds = dict(zip(KINDS, apportioned(units, whole), strict=True))
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for kind in KINDS:
        for name, amount in zip(names, apportioned(exact[kind], kinds[kind]), strict=True):
            found[name][kind] = amount
    return Table(found, kinds, whole)


def rounded(units: int) -> int:
    """Units as an amount of a table, half of one up."""
    return (units + QUANTUM // 2) // QUANTUM


def apportioned(units: Sequence[int], whole: int) -> list[int]:
    """Units as amounts that sum up to ``whole``, which is their sum rounded up or down.

    Args:
        units: each at least 0.
        whole: the amount of all together.
    """
    found = [each // QUANTUM for each in units]
    by_remainder = sorted(range(len(units)), key=lambda n: -(units[n] % QUANTUM))
    for n in by_remainder[: whole - sum(found)]:
        found[n] += 1
    return found


def money(amount: int) -> str:
    """An amount of a table as a decimal number: ``12.3400``."""
    return f"{amount // 10**PLACES}.{amount % 10**PLACES:0{PLACES}}"
