"""Which offers fit a worker, and in which order they are taken: pure functions of what Vast's search answers.

Money is in dollars an hour, memory and disks in gigabytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: A host that is there for 99 of 100 hours is worth a tenth less than one that always is: what is lost with it is more
#: than the hour.
RELIABILITY_POWER = 10
#: A bid over what a host asks for at least, unless the settings name one.
BID_FACTOR = 1.2
#: Vast gives storage for a month.
HOURS_A_MONTH = 730.0
#: Vast's memory is in megabytes, of which its own tools count a thousand to a gigabyte.
_MB = 1000
OFFERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """A kind of machine."""

    gpus: int
    gpu_name: str = ""
    gpu_ram_gb: float = 0.0
    cpus: float = 0.0
    memory_gb: float = 0.0
    disk_gb: float = 20.0
    regions: tuple[str, ...] = ()
    reliability_min: float = 0.0
    verified: bool = True
    interruptible: bool = False
    bid_per_hour: float = 0.0  # 0: `BID_FACTOR` times what the host asks for at least


@dataclass(frozen=True, slots=True)
class Offer:
    """One machine, or a part of one, that can be rented."""

    offer_id: int
    machine_id: int
    host_id: int
    gpu_name: str
    gpus: int
    price_per_hour: float  # with storage, and the bid where it is one
    storage_per_hour: float
    bid_per_hour: float  # 0: a fixed price
    perf: float
    reliability: float
    region: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The offers that may be taken, the best first; and why others may not."""

    offers: list[Offer]
    dropped: dict[str, int] = field(default_factory=dict)
    cheapest_over: float | None = None  # of those over the price cap


def query_of(wanted: Wanted) -> dict[str, Any]:
    """What is sent to search for a kind of machine. The price is not in it: what is over the cap is to be said."""
    query: dict[str, Any] = {
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "num_gpus": {"eq": wanted.gpus},
        "disk_space": {"gte": wanted.disk_gb},
        "direct_port_count": {"gte": 1},
        "order": [["dph_total", "asc"]],
        "type": "bid" if wanted.interruptible else "on-demand",
        "limit": OFFERS_MAX,
        "allocated_storage": wanted.disk_gb,
    }
    if wanted.verified:
        query["verified"] = {"eq": True}
    if wanted.gpu_name:
        query["gpu_name"] = {"eq": wanted.gpu_name.replace("_", " ")}
    if wanted.gpu_ram_gb:
        query["gpu_ram"] = {"gte": wanted.gpu_ram_gb * _MB}
    if wanted.cpus:
        query["cpu_cores_effective"] = {"gte": wanted.cpus}
    if wanted.memory_gb:
        query["cpu_ram"] = {"gte": wanted.memory_gb * _MB}
    if wanted.regions:
        query["geolocation"] = {"in": list(wanted.regions)}
    if wanted.reliability_min:
        query["reliability"] = {"gte": wanted.reliability_min}
    return query


def any_of_gpu(wanted: Wanted) -> dict[str, Any]:
    """What is sent to find out whether there is such a GPU at all."""
    return {
        "gpu_name": {"eq": wanted.gpu_name.replace("_", " ")},
        "order": [["dph_total", "asc"]],
        "type": "on-demand",
        "limit": 1,
    }


def offer_of(row: object, wanted: Wanted) -> Offer | None:
    """An offer out of Vast's answer; None where it is not as documented, or not what was asked for."""
    if not isinstance(row, dict):
        return None
    numbers = {
        name: number(row, name)
        for name in ("id", "machine_id", "host_id", "num_gpus", "dph_total", "dlperf", "min_bid", "storage_total_cost")
    }
    offer_id, machine_id, gpus, price = (numbers[name] for name in ("id", "machine_id", "num_gpus", "dph_total"))
    gpu_name = str(row.get("gpu_name") or "")
    if offer_id is None or machine_id is None or price is None or price <= 0 or gpus != wanted.gpus:
        return None
    if wanted.gpu_name and gpu_name.replace(" ", "_") != wanted.gpu_name.replace(" ", "_"):
        return None
    reliability = number(row, "reliability")
    storage = storage_per_hour(row, wanted.disk_gb)
    bid = _bid(wanted, numbers["min_bid"]) if wanted.interruptible else 0.0
    if wanted.interruptible and bid <= 0:
        return None
    return Offer(
        offer_id=int(offer_id),
        machine_id=int(machine_id),
        host_id=int(numbers["host_id"] or 0),
        gpu_name=gpu_name,
        gpus=int(gpus),
        price_per_hour=max(price, bid + storage) if bid else price,
        storage_per_hour=storage,
        bid_per_hour=bid,
        perf=max(numbers["dlperf"] or 0.0, 0.0),
        reliability=min(
            max((reliability if reliability is not None else number(row, "reliability2")) or 0.0, 0.0), 1.0
        ),
        region=str(row.get("geolocation") or ""),
    )


def _bid(wanted: Wanted, asked: float | None) -> float:
    """What is bid for a machine; 0: it cannot be had for that."""
    if asked is None or asked <= 0:
        return 0.0
    if wanted.bid_per_hour:
        return wanted.bid_per_hour if wanted.bid_per_hour >= asked else 0.0
    return round(asked * BID_FACTOR, 4)


def choose(rows: Iterable[object], wanted: Wanted, price_max: float, is_listed: Callable[[Offer], bool]) -> Choice:
    """The offers that may be taken, the best first.

    Args:
        rows: what Vast's search answered.
        wanted: what was asked for.
        price_max: the price cap.
        is_listed: whether an offer's host is on the black list.
    """
    fits: list[Offer] = []
    over: list[float] = []
    dropped = {"on hosts that have failed lately": 0, "not as asked for": 0, "not reliable enough": 0}
    for row in rows:
        offer = offer_of(row, wanted)
        if offer is None:
            dropped["not as asked for"] += 1
        elif offer.reliability < wanted.reliability_min:
            dropped["not reliable enough"] += 1
        elif offer.price_per_hour > price_max:
            over.append(offer.price_per_hour)
        elif is_listed(offer):
            dropped["on hosts that have failed lately"] += 1
        else:
            fits.append(offer)
    fits.sort(key=rank)
    return Choice(fits, {reason: count for reason, count in dropped.items() if count}, min(over, default=None))


def rank(offer: Offer) -> tuple[float, float, int]:
    """What offers are sorted by, the lowest first: the price of what it does, corrected by how reliable it is."""
    worth = (offer.perf or 1.0) * offer.reliability**RELIABILITY_POWER
    return (offer.price_per_hour / worth if worth > 0 else math.inf, offer.price_per_hour, offer.offer_id)


def storage_per_hour(row: dict[str, Any], disk_gb: float) -> float:
    """What the disk of an offer or an instance costs, in dollars an hour."""
    total = number(row, "storage_total_cost")
    if total is not None and total >= 0:
        return total
    return max(0.0, (number(row, "storage_cost") or 0.0) * disk_gb / HOURS_A_MONTH)


def number(row: dict[str, Any], name: str) -> float | None:
    """A number of an answer of Vast's; None where there is none, or none that is finite."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value
