"""Which offers are taken, in which order; which hosts are left out, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from nullworker.fleets.vast.blacklist import HALF_LIFE_S, BlackList
from nullworker.fleets.vast.offers import Wanted, choose, offer_of, query_of, rank, storage_per_hour
from tests.integration.vast.fake_vast import offer

WANTED = Wanted(gpus=1, gpu_name="RTX_4090", reliability_min=0.9)


def chosen(*rows: object, wanted: Wanted = WANTED, price_max: float = 0.5) -> list[int]:
    return [each.offer_id for each in choose(rows, wanted, price_max, lambda _: False).offers]


def test_the_price_of_what_a_machine_does_decides() -> None:
    assert chosen(offer(1, dph_total=0.3, dlperf=90), offer(2, dph_total=0.4, dlperf=150)) == [2, 1]
    assert chosen(offer(1, dph_total=0.3, reliability=0.92), offer(2, dph_total=0.4, reliability=0.99)) == [2, 1]
    assert chosen(offer(1, dph_total=0.3, reliability=0.98), offer(2, dph_total=0.4, reliability=0.99)) == [1, 2]
    assert chosen(offer(2), offer(1)) == [1, 2], "of two alike the order is certain"


def test_what_cannot_be_taken_is_counted_by_its_reason() -> None:
    rows = [
        offer(1, dph_total=0.7),
        offer(2, dph_total=0.6),
        offer(3, reliability=0.5),
        offer(4, machine_id=9),
        offer(5, num_gpus=2),
        offer(6, gpu_name="RTX 3090"),
        offer(7, dph_total=float("nan")),
        offer(8, dph_total="cheap"),
        {"id": True, "dph_total": 0.1},
        None,
        "an offer",
    ]
    found = choose(rows, WANTED, 0.5, lambda each: each.machine_id == 9)
    assert found.offers == []
    assert found.cheapest_over == 0.6
    assert found.dropped == {"on hosts that have failed lately": 1, "not as asked for": 7, "not reliable enough": 1}


def test_a_bid_is_what_is_paid() -> None:
    wanted = Wanted(gpus=1, interruptible=True)
    found = offer_of(offer(1, dph_total=0.11, min_bid=0.1), wanted)
    assert found is not None
    assert found.bid_per_hour == pytest.approx(0.12)
    assert found.price_per_hour == pytest.approx(0.13), "with storage"
    own = Wanted(gpus=1, interruptible=True, bid_per_hour=0.2)
    assert chosen(offer(1, min_bid=0.1), offer(2, min_bid=0.3), wanted=own) == [1], "a bid too low gets nothing"
    assert query_of(wanted)["type"] == "bid"


def test_a_host_without_a_score_is_the_last() -> None:
    wanted = Wanted(gpus=1)
    rows = [offer_of(offer(1, reliability=None), wanted), offer_of(offer(2, dlperf=None, dph_total=0.5), wanted)]
    assert max((each for each in rows if each is not None), key=rank).offer_id == 1


@pytest.mark.parametrize(
    ("row", "dollars"),
    [({"storage_total_cost": 0.02}, 0.02), ({"storage_cost": 0.73}, 0.02), ({}, 0.0), ({"storage_cost": -1}, 0.0)],
)
def test_storage_costs_by_the_hour(row: dict[str, Any], dollars: float) -> None:
    assert storage_per_hour(row, 20.0) == pytest.approx(dollars)


def test_a_host_is_left_out_for_longer_the_more_often_it_failed() -> None:
    hosts = BlackList()
    hosts.strike(7, 1000.0)
    assert hosts.has(7, 1000.0 + HALF_LIFE_S - 1)
    assert not hosts.has(7, 1000.0 + HALF_LIFE_S)
    assert not hosts.has(8, 1000.0)
    hosts.strike(7, 1000.0)
    assert hosts.has(7, 1000.0 + 2 * HALF_LIFE_S - 1)
    assert not hosts.has(7, 1000.0 + 2 * HALF_LIFE_S)


def test_what_has_decayed_is_forgotten() -> None:
    hosts = BlackList()
    hosts.strike(7, 0.0)
    hosts.strike(8, 10 * HALF_LIFE_S)
    assert set(hosts.machines) == {8}
    assert hosts.count(8, 0.0) == 1.0, "a clock that was set back makes nothing worse"
