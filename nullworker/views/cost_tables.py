"""Makes the view of costs from grouped time."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Protocol

from nullworker.views.costs import KINDS, US, Amounts, added, amounts, money, rounded, table
from nullworker.views.types import CostRow, Costs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Rows that are sent, those that cost most; the others are one row.
ROWS_MAX = 1_000
BYS = ("endpoint", "queue", "job", "day", "worker")
NO_PRICE = "No workergroup had a price in this time: price_per_hour in its configuration says what a worker costs."


class GroupLike(Protocol):
    """Time of one kind at one price, of what it is grouped by (`nullworker.engine.cost_file.Group`)."""

    @property
    def key(self) -> int:
        """The number of the endpoint, worker, day or reservation."""

    @property
    def queue(self) -> str:
        """The queue of the reservation; "": not known."""

    @property
    def job(self) -> str:
        """The job of the reservation; "": not known."""

    @property
    def kind(self) -> str:
        """What the time was for."""

    @property
    def running(self) -> int:
        """The price of a running machine, in 10^-9 of the currency an hour."""

    @property
    def storage(self) -> int:
        """The price of its storage, likewise."""

    @property
    def us(self) -> int:
        """How long it was, in microseconds."""


def costs(
    by: str,
    groups: Iterable[GroupLike],
    name: Callable[[int], str],
    now_s: float,
    since_s: float,
    per_hour: int,
) -> Costs:
    """The view.

    Args:
        by: what is in a row, one of `BYS`.
        groups: all time.
        name: gives an endpoint's name by its id ("": it is gone).
        now_s: Unix time.
        since_s: when the time begins.
        per_hour: what the workers of this moment cost in an hour, in units.
    """
    sums: dict[str, Amounts] = {}
    for group in groups:
        key = _name(by, group, name)
        sums[key] = added(sums.get(key, Amounts()), _amounts(group))
    if by == "day":
        order = sorted(sums, reverse=True)
    else:
        order = sorted(sums, key=lambda key: (-sum(sums[key][: len(KINDS)]), -sums[key].worker_us, key))
    shown = {key: sums[key] for key in order[:ROWS_MAX]}
    if len(order) > ROWS_MAX:
        rest = Amounts()
        for key in order[ROWS_MAX:]:
            rest = added(rest, sums[key])
        shown[f"{len(order) - ROWS_MAX} others"] = rest
    found = table(shown)
    rows = tuple(_row(key, shown[key], found.rows[key]) for key in shown)
    whole = Amounts()
    for each in shown.values():
        whole = added(whole, each)
    ground = NO_PRICE if whole.worker_us and not any(whole[: len(KINDS)]) else ""
    return Costs(now_s, since_s, by, rows, _row("all", whole, found.kinds), money(rounded(per_hour)), ground)


def one_row(title: str, groups: Iterable[GroupLike]) -> CostRow | None:
    """What one thing cost; None: there is no time of it."""
    whole = Amounts()
    for group in groups:
        whole = added(whole, _amounts(group))
    return _row(title, whole, table({title: whole}).rows[title]) if whole.worker_us else None


def _amounts(group: GroupLike) -> Amounts:
    return amounts(group.kind, group.us, group.running, group.storage)


def _name(by: str, group: GroupLike, name: Callable[[int], str]) -> str:
    if by == "endpoint":
        return name(group.key) or f"endpoint {group.key} (deleted)"
    if by == "worker":
        return f"worker {group.key}" if group.key else "workers of earlier days"
    if by == "day":
        return f"{dt.datetime.fromtimestamp(group.key * 86_400, dt.timezone.utc):%Y-%m-%d}"
    if not group.key:
        return "no reservation"
    if by == "queue":
        return group.queue or "no queue told"
    return group.job or f"request {group.key}"


def _row(title: str, exact: Amounts, amounts_: dict[str, int]) -> CostRow:
    shown = {kind: money(amounts_[kind]) for kind in KINDS}
    return CostRow(title, exact.worker_us / US, exact.held_us / US, **shown, total=money(sum(amounts_.values())))
