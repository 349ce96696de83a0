"""The Vast fleet over a stub of Vast's interface: the conformance kit, what is lost on the way, money, bad input."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.fleets.base import Fleet, FleetError, InstanceState, Resources, ShortageError
from nullworker.fleets.vast import renting, rest, settling, watching
from nullworker.fleets.vast.fleet import VastFleet
from nullworker.fleets.vast.offers import OFFERS_MAX
from nullworker.fleets.vast.records import VastRecord
from nullworker.fleets.vast.rest import SPACING_S
from nullworker.testing.fleets import check_fleet, plain_spec
from tests.integration.process_fleets import spec
from tests.integration.vast.fake_vast import KEY, FakeVast, offer
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nullworker.fleets.base import Notice
    from nullworker.testing.fleet_kit import OnExit, OnNotice

RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub has no limits on calls, and does at once what Vast takes seconds for."""
    monkeypatch.setattr(rest, "SPACING_S", dict.fromkeys(rest.SPACING_S, 0.0))
    for module, name, seconds in (
        (rest, "PAUSE_S", 0.01),
        (settling, "SCHEDULED_S", 0.2),
        (settling, "POLL_S", 0.02),
        (renting, "LOST_S", 0.5),
        (renting, "LOST_POLL_S", 0.02),
    ):
        monkeypatch.setattr(module, name, seconds)


@dataclass
class Account:
    vast: FakeVast
    settings: dict[str, Any]
    exits: list[tuple[int, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    fleets: list[VastFleet] = field(default_factory=list)

    async def open(self, mark: str = "mark", **settings: Any) -> VastFleet:
        opened = await VastFleet.open(
            {**self.settings, **settings}, mark, lambda *exited: self.exits.append(exited), self.notices.append
        )
        self.fleets.append(opened)
        return opened


@pytest.fixture
async def account(tmp_path: Path) -> AsyncIterator[Account]:
    async with FakeVast(tmp_path) as vast:
        key = tmp_path / "key"
        key.write_text(KEY + "\n")
        settings = {
            "state_dir": tmp_path / "state",
            "url": vast.url,
            "api_key_file": str(key),
            "repository": "https://example.com/nullworker.git",
            "gpu_name": "RTX_4090",
            "price_per_hour_max": 0.5,
            "spend_per_day_max": 100.0,
            "instances_s": 0.1,
        }
        made = Account(vast, settings)
        yield made
        for each in made.fleets:
            await each.close()


async def states(of: Fleet) -> dict[int, InstanceState]:
    return {each.worker_id: each.state for each in await of.list()}


async def test_it_passes_the_conformance_kit(account: Account) -> None:
    async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
        return await VastFleet.open(account.settings, mark, on_exit, on_notice)

    async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
        account.vast.crash(worker_id, mark)

    @contextlib.asynccontextmanager
    async def shortage(_fleet: Fleet, _mark: str) -> AsyncIterator[None]:
        kept, account.vast.offers = account.vast.offers, []
        yield
        account.vast.offers = kept

    result = await check_fleet(
        make_fleet,
        crash=crash,
        shortage=shortage,
        faults=account.vast.faults(),
        make_spec=plain_spec,
        settings=account.settings,
        lag_s=5.0,
        quiet_s=0.15,
    )
    assert result.left_out == ()
    assert account.vast.instances == {}


async def test_the_best_offer_is_taken_under_the_cap_and_the_box_gets_no_key_of_the_account(account: Account) -> None:
    account.vast.offers = [
        offer(1, dph_total=0.20, reliability=0.80),
        offer(2, dph_total=0.60, dlperf=500.0),
        offer(3, dph_total=0.40, dlperf=200.0),
        offer(4, dph_total=0.30, dlperf=90.0),
        offer(5, dph_total=0.30, dlperf=200.0, reliability=0.955),
        offer(6, dph_total=0.25, dlperf=200.0, gpu_name="RTX 3090"),
        offer(7, dph_total=0.25, dlperf=200.0, geolocation="China, CN"),
    ]
    opened = await account.open(regions=["SE", "NO"], ref="v1", consumer_dir="/work")
    needs = Resources(cpus=4, memory_gb=32)
    await opened.create(spec(1, "null", consumer="python job.py", env={"HF_HOME": "/models"}, resources=needs))
    assert account.vast.rented == [3], "of the price of what it does, corrected by how reliable it is"
    (rented,) = account.vast.of(1)
    body = rented.body
    assert (body["cancel_unavail"], body["runtype"], body["price"], body["disk"]) == (True, "ssh", None, 20.0)
    env = body["env"]
    assert (env["MASTER_TOKEN"], env["BACKEND"], env["REPORT_ADDR"]) == ("token-1", "null", "http://127.0.0.1:9")
    assert (env["NULL_CONSUMER"], env["NULL_CONSUMER_DIR"], env["HF_HOME"]) == ("python job.py", "/work", "/models")
    assert (env["-p 3000:3000"], env["NULLWORKER_WORKER"], env["PYWORKER_REF"]) == ("1", "1", "v1")
    assert KEY not in str(body)
    listed = (await opened.list())[0]
    assert (listed.endpoint, listed.workergroup_id, listed.storage_price_per_hour) == ("endpoint", 1, 0.01)
    assert listed.price_per_hour == pytest.approx(0.39)
    search = next(body for kind, body in account.vast.bodies if kind == "search")
    assert search["geolocation"] == {"in": ["SE", "NO"]}
    assert (search["cpu_cores_effective"], search["cpu_ram"]) == ({"gte": 4}, {"gte": 32000})
    assert await opened.read_log(1, 10) == b"last line\n"


async def test_a_lost_answer_rents_one_machine(account: Account) -> None:
    opened = await account.open()
    account.vast.lost["rent"] = 1
    await opened.create(spec(1))
    assert len(account.vast.of(1)) == 1
    assert account.vast.calls.count("rent") == 1
    assert await states(opened) == {1: RUNNING}


async def test_what_is_listed_too_late_is_uncertain_and_found_by_the_next_order(account: Account) -> None:
    opened = await account.open(instances_s=3600.0)
    account.vast.lost["rent"] = 1
    account.vast.lies["list"] = '{"instances": [], "next_token": null}'
    with pytest.raises(FleetError, match=r"did not answer when asked to rent a machine \(.*\)\.$") as lost:
        await opened.create(spec(1))
    assert not lost.value.definite
    del account.vast.lies["list"]
    await opened.create(spec(1))
    assert len(account.vast.instances) == 1
    assert await states(opened) == {1: RUNNING}


async def test_what_is_listed_after_it_was_given_up_is_destroyed(account: Account) -> None:
    opened = await account.open()
    account.vast.lost["rent"] = 1
    account.vast.lies["list"] = '{"instances": [], "next_token": null}'
    with pytest.raises(FleetError):
        await opened.create(spec(1))
    await opened.destroy(1)
    assert len(account.vast.instances) == 1
    del account.vast.lies["list"]
    await until(lambda: account.vast.instances == {}, "the order is not to be, whenever it is listed")
    assert await opened.list() == []
    assert account.exits == []


async def test_a_destruction_that_was_none_is_repeated(account: Account) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    account.vast.ignores_destroy = 1
    await opened.destroy(1)
    await until(lambda: account.vast.instances == {})
    assert account.vast.calls.count("destroy") == 2


async def test_what_was_asked_of_a_place_that_is_not_there_is_definite(account: Account) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    await account.vast.__aexit__()
    with pytest.raises(FleetError, match=r"cannot be reached \(.*\)\.$") as refused:
        await opened.create(spec(2))
    assert refused.value.definite
    with pytest.raises(FleetError, match=r"cannot be reached \(.*\)\.$"):
        await opened.stop(1)


async def test_offers_that_are_gone_are_passed_over_and_hosts_that_failed_left_out(account: Account) -> None:
    opened = await account.open()
    gone: tuple[int, dict[str, Any], dict[str, str]] = (
        410,
        {"success": False, "error": "no_such_ask", "msg": "Instance type 1 is no longer available."},
        {},
    )
    account.vast.refuses["rent"] = [gone, gone]
    account.vast.offers = [offer(number, dph_total=0.1 + number / 100) for number in range(1, 6)]
    await opened.create(spec(1))
    assert account.vast.rented == [3]
    (instance,) = account.vast.instances.values()
    instance.actual = "exited"
    instance.message = "Error response from daemon: no such image"
    opened._kept.by_worker[1].has_run = True
    await until(lambda: account.exits)
    assert account.exits == [(1, "its container has ended (Error response from daemon: no such image)")]
    assert opened._books.is_listed(1003)
    await opened.destroy(1)
    await opened.close()
    account.vast.offers = [offer(13, machine_id=1003)]
    again = await account.open()
    with pytest.raises(ShortageError, match=r"no offer of 1 x RTX_4090, .* \(1 on hosts that have failed lately\)\.$"):
        await again.create(spec(2))


async def test_too_many_calls_wait_and_a_used_up_quota_is_a_shortage(account: Account) -> None:
    opened = await account.open()
    busy = (429, {"success": False, "msg": "API requests too frequent"}, {"Retry-After": "0.01"})
    account.vast.refuses = {"rent": [busy], "list": [busy]}
    await opened.create(spec(1))
    assert len(account.vast.instances) == 1
    await opened.close()
    again = await account.open()
    account.vast.refuses["search"] = [(429, {"success": False, "error": "search_quota_exceeded"}, {})]
    for worker_id in (2, 3):
        with pytest.raises(ShortageError, match=r"no more searches of this account until 00:00 UTC, when"):
            await again.create(spec(worker_id))
    assert account.vast.calls.count("search") == 2
    assert await states(again) == {1: RUNNING}


async def test_a_question_is_asked_again_where_a_gateway_has_no_answer_and_an_order_is_not(account: Account) -> None:
    gateway: tuple[int, dict[str, Any], dict[str, str]] = (503, {"msg": "upstream"}, {})
    account.vast.refuses = {"list": [gateway], "search": [gateway], "rent": [gateway]}
    opened = await account.open()
    with pytest.raises(FleetError, match=r"did not answer when asked to rent a machine \(upstream\)\.$") as lost:
        await opened.create(spec(1))
    assert not lost.value.definite
    assert (account.vast.calls.count("search"), account.vast.calls.count("rent")) == (2, 1)


async def test_one_search_serves_all_and_there_are_never_more_than_ten_a_minute(account: Account) -> None:
    opened = await account.open(spend_per_day_max=1000.0)
    await asyncio.gather(*(opened.create(spec(worker_id)) for worker_id in range(1, 21)))
    assert account.vast.calls.count("search") == 1
    assert len(set(account.vast.rented)) == 20
    for cpus in range(1, 10):
        await opened.create(spec(100 + cpus, resources=Resources(cpus=cpus)))
    with pytest.raises(ShortageError, match="10 times in the last minute"):
        await opened.create(spec(200, resources=Resources(cpus=12)))


async def test_the_list_is_read_in_pages_and_what_is_of_others_is_left_alone(account: Account) -> None:
    ours, theirs = await account.open(instances_s=30.0), await account.open("another", instances_s=30.0)
    for each in (ours, theirs):
        await asyncio.gather(*(each.create(spec(worker_id)) for worker_id in range(1, 31)))
    assert await ours.list() == await theirs.list()
    await ours.close()
    await theirs.close()
    account.vast.calls.clear()
    again = await account.open(instances_s=30.0)
    assert account.vast.calls.count("list") == 3
    assert await states(again) == dict.fromkeys(range(1, 31), RUNNING)
    await again.close(destroy=True)
    labels = {instance.body["label"].rpartition("-")[0] for instance in account.vast.instances.values()}
    assert labels == {f"nw-another-{worker_id}" for worker_id in range(1, 31)}


async def test_the_days_money_is_a_cap_that_a_restart_does_not_lift(account: Account) -> None:
    opened = await account.open(spend_per_day_max=1.0)
    for worker_id in (1, 2, 3):
        await opened.create(spec(worker_id))
    said = (
        r"^Nothing more is rented today: \$0\.00 of spend_per_day_max \$1 are spent, and \$1\.24 an hour would run with"
    )
    with pytest.raises(ShortageError, match=said):
        await opened.create(spec(4))
    await opened.stop(3)
    await opened.create(spec(4))
    with pytest.raises(ShortageError, match="Nothing more is rented today"):
        await opened.start(3)
    assert len(account.vast.instances) == 4
    opened._books._spend.spent = 0.9
    opened._books._saved_at = 0.0
    await opened.close(destroy=True)
    again = await account.open(spend_per_day_max=1.0)
    assert again._books.spent_today == pytest.approx(0.9, abs=0.01)
    with pytest.raises(ShortageError, match=r"\$0\.90 of spend_per_day_max"):
        await again.create(spec(5))


async def test_orders_at_once_do_not_pass_the_cap_together(account: Account) -> None:
    opened = await account.open(spend_per_day_max=1.0)
    ended = await asyncio.gather(*(opened.create(spec(i)) for i in range(1, 9)), return_exceptions=True)
    assert [isinstance(each, ShortageError) for each in ended] == [False] * 3 + [True] * 5
    assert len(account.vast.instances) == 3


async def test_a_restart_adopts_with_records_and_without(account: Account, tmp_path: Path) -> None:
    opened = await account.open()
    for worker_id in (1, 2):
        await opened.create(spec(worker_id))
    await opened.stop(2)
    await opened.close()
    kept = list((tmp_path / "state").rglob("*.json"))
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}, "a record has its worker's token"
    account.vast.calls.clear()
    again = await account.open()
    assert await states(again) == {1: RUNNING, 2: STOPPED}
    assert set(account.vast.calls) == {"list"}
    await again.close()
    fresh = await account.open(state_dir=tmp_path / "fresh")
    listed = {each.worker_id: each for each in await fresh.list()}
    assert {worker_id: each.state for worker_id, each in listed.items()} == {1: RUNNING, 2: STOPPED}
    assert (listed[1].endpoint, listed[1].workergroup_id) == ("endpoint", 1)
    await fresh.start(2)
    assert await states(fresh) == {1: RUNNING, 2: RUNNING}
    assert len(account.vast.rented) == 2
    await fresh.stop(2)
    account.vast.has_room = False
    before = account.vast.of(2)[0].body["env"]
    await fresh.start(2)
    assert account.vast.of(2)[0].body["env"] == before, "moved without a record, it is told the same"
    assert len(account.vast.rented) == 3


async def test_an_order_that_a_dead_engine_has_left_is_given_up_or_taken_over(account: Account) -> None:
    opened = await account.open(instances_s=3600.0)
    for worker_id, label in ((1, "nw-mark-1-00000001"), (2, "nw-mark-2-00000002")):
        opened._kept.by_worker[worker_id] = VastRecord(label=label)
        opened._kept.save(worker_id)
    await opened.create(spec(3))
    (instance,) = account.vast.instances.values()
    account.vast.instances[9999] = type(instance)(
        9999, instance.offer, {**instance.body, "label": "nw-mark-2-00000002"}
    )
    await opened.close()
    again = await account.open()
    assert await states(again) == {2: RUNNING, 3: RUNNING}
    account.vast.instances[9998] = type(instance)(
        9998, instance.offer, {**instance.body, "label": "nw-mark-1-00000001"}
    )
    await until(lambda: 9998 not in account.vast.instances)
    assert await states(again) == {2: RUNNING, 3: RUNNING}


async def test_a_second_instance_of_a_worker_is_destroyed(account: Account) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    (first,) = account.vast.instances.values()
    second = type(first)(9999, first.offer, {**first.body, "label": "nw-mark-1-00000000"})
    account.vast.instances[9999] = second
    await until(lambda: list(account.vast.instances.values()) == [first])
    assert await states(opened) == {1: RUNNING}


@pytest.mark.parametrize("is_said", [True, False])
async def test_where_a_machine_is_taken_another_is_rented_in_its_place(account: Account, is_said: bool) -> None:
    opened = await account.open()
    await opened.create(spec(1, "null"))
    await opened.stop(1)
    old = account.vast.of(1)[0]
    account.vast.has_room, account.vast.is_quick = not is_said, False
    await opened.start(1)
    (new,) = account.vast.of(1)
    assert new.contract_id != old.contract_id
    assert new.body["env"] == old.body["env"]
    assert await states(opened) == {1: RUNNING}
    await opened.stop(1)
    account.vast.offers = []
    opened._renter._market._searches.clear()
    with pytest.raises(ShortageError):
        await opened.start(1)
    assert await states(opened) == {1: STOPPED}
    assert account.vast.of(1)[0].intended == "stopped", "else it would start by itself when there is room"
    account.vast.has_room = account.vast.is_quick = True
    await opened.start(1)
    assert account.vast.of(1) == [new]
    assert account.exits == []


async def test_one_that_was_outbid_has_ended_and_is_not_resumed(account: Account) -> None:
    opened = await account.open(interruptible=True)
    await opened.create(spec(1))
    (instance,) = account.vast.of(1)
    assert instance.body["price"] == pytest.approx(0.12), "a fifth over what the host asks for"
    assert next(body for kind, body in account.vast.bodies if kind == "search")["type"] == "bid"
    opened._kept.by_worker[1].has_run = True
    account.vast.outbid(1)
    await until(lambda: account.exits)
    assert account.exits == [(1, "another bid more for its machine, or its host took it back")]
    await until(lambda: instance.intended == "stopped")
    account.vast.resume(1)
    assert account.vast.running() == []
    assert not opened._books.is_listed(instance.offer["machine_id"]), "that is no failure of the host's"
    await opened.destroy(1)
    opened._renter._market._searches.clear()
    account.vast.offers = [offer(900, min_bid=0.6)]
    with pytest.raises(ShortageError, match=r"the cheapest costs \$0\.730/h, over price_per_hour_max \$0\.5\)"):
        await opened.create(spec(2))


async def test_a_stopped_one_that_runs_again_by_itself_is_stopped(account: Account) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    await opened.stop(1)
    (instance,) = account.vast.of(1)
    instance.intended = instance.cur = instance.actual = "running"
    await until(lambda: instance.intended == "stopped")
    assert await states(opened) == {1: STOPPED}


async def test_one_that_was_stopped_for_too_long_is_destroyed(account: Account) -> None:
    opened = await account.open(stopped_age_max_s=60.0)
    for worker_id in (1, 2):
        await opened.create(spec(worker_id))
        await opened.stop(worker_id)
    opened._kept.by_worker[1].stopped_at -= 61.0
    await until(lambda: account.exits)
    assert [worker_id for worker_id, _ in account.exits] == [1]
    assert "destroyed to save its storage" in account.exits[0][1]
    assert [each.body["label"].split("-")[2] for each in account.vast.instances.values()] == ["2"]
    await opened.destroy(1)
    assert await states(opened) == {2: STOPPED}


async def test_what_is_gone_is_asked_for_by_itself_before_that_is_believed(account: Account) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    account.vast.lies["list"] = '{"instances": [], "next_token": null}'
    await until(lambda: "show" in account.vast.calls)
    assert await states(opened) == {1: RUNNING}
    account.vast.instances.clear()
    await until(lambda: account.exits)
    assert account.exits == [(1, "its instance is gone (someone has destroyed it, or it has itself)")]
    assert await states(opened) == {1: EXITED}


async def test_a_host_that_is_offline_is_no_death_at_once(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    (instance,) = account.vast.of(1)
    instance.actual = "offline"
    before = account.vast.calls.count("list")
    await until(lambda: account.vast.calls.count("list") > before + 2)
    assert await states(opened) == {1: RUNNING}
    monkeypatch.setattr(watching, "OFFLINE_S", 0.05)
    await until(lambda: account.exits)
    assert account.exits == [(1, "its host has lost its connection to Vast")]
    assert opened._books.is_listed(instance.offer["machine_id"])


async def test_a_price_that_was_raised_over_the_cap_is_told_once(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    account.vast.of(1)[0].offer["dph_total"] = 0.6
    await until(lambda: "worker 1 costs $0.600/h now, over price_per_hour_max $0.5" in caplog.text)
    before = account.vast.calls.count("list")
    await until(lambda: account.vast.calls.count("list") > before + 1)
    assert caplog.text.count("over price_per_hour_max") == 1
    assert (await opened.list())[0].price_per_hour == pytest.approx(0.59)


async def test_a_worker_gets_nothing_new_when_its_offer_ends_soon(account: Account) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    (instance,) = account.vast.of(1)
    shown = instance.shown
    ends = shown()["start_date"] + 600
    instance.shown = lambda: {**shown(), "end_date": ends}  # type: ignore[method-assign]
    await until(lambda: account.notices)
    (notice,) = account.notices
    assert notice.worker_id == 1  # type: ignore[union-attr]
    assert 500 < notice.in_s <= 600  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "lie",
    [
        "nonsense",
        "[]",
        '{"instances": 3}',
        '{"instances": [7, null, {"id": "x"}], "next_token": 5}',
        '{"instances": [], "next_token": "again"}',
        '{"instances": [{"id": 1}], "next_token": null}',
    ],
)
async def test_a_place_that_lies_ends_no_worker(account: Account, lie: str) -> None:
    opened = await account.open()
    await opened.create(spec(1))
    account.vast.lies["list"] = lie
    before = account.vast.calls.count("list")
    await until(lambda: account.vast.calls.count("list") > before + 1)
    with contextlib.suppress(FleetError):
        assert await states(opened) == {1: RUNNING}
    del account.vast.lies["list"]
    assert await states(opened) == {1: RUNNING}
    assert account.exits == []


@pytest.mark.parametrize("lie", ["<html>", '{"offers": 7}', '{"offers": [1, {"id": 1}, {"id": "x", "dph_total": -1}]}'])
async def test_offers_that_are_none_rent_nothing(account: Account, lie: str) -> None:
    opened = await account.open()
    account.vast.lies["search"] = lie
    with pytest.raises(FleetError, match=r"^Vast.*\.$") as refused:
        await opened.create(spec(1))
    assert refused.value.definite
    assert account.vast.calls.count("rent") == 0
    assert await opened.list() == []


async def test_an_order_that_is_answered_with_nonsense_is_looked_for(account: Account) -> None:
    opened = await account.open()
    account.vast.lies["rent"] = '{"success": true}'
    with pytest.raises(FleetError, match="answer to an order is not as documented") as lost:
        await opened.create(spec(1))
    assert not lost.value.definite
    assert account.vast.calls.count("rent") == 1


@pytest.mark.parametrize(
    ("changes", "offers", "message"),
    [
        (
            {"gpu_name": "RTX_9090"},
            [offer(1)],
            r"^Vast has no offer of a GPU called 'RTX_9090': correct gpu_name, as in",
        ),
        (
            {"price_per_hour_max": 0.2},
            [offer(1)],
            r"\(the cheapest costs \$0\.310/h, over price_per_hour_max \$0\.2\)\.$",
        ),
        (
            {"regions": ["FR"]},
            [offer(1)],
            r"no offer of 1 x RTX_4090, 20 GB of disk, in FR, reliability 0\.95 or more\.$",
        ),
        ({"gpus_per_worker": 8}, [offer(1)], r"no offer of 8 x RTX_4090"),
    ],
)
async def test_a_shortage_says_what_was_looked_for(
    account: Account, changes: dict[str, Any], offers: list[dict[str, Any]], message: str
) -> None:
    account.vast.offers = offers
    opened = await account.open(**changes)
    for _ in range(3):
        with pytest.raises(ShortageError, match=message):
            await opened.create(spec(1))
    assert account.vast.calls.count("search") <= 2 + 2
    assert account.vast.calls.count("rent") == 0


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (
            400,
            {"success": False, "error": "invalid_args", "msg": "You lack credit."},
            "refused to rent a machine: You lack",
        ),
        (
            401,
            {"success": False, "error": "auth_error", "msg": "Invalid user key"},
            r"refuses the key \(Invalid user key\)",
        ),
        (403, {}, r"refuses the key \(HTTP 403\): put the account's key into api_key_file"),
    ],
)
async def test_a_refused_order_is_one_sentence(
    account: Account, status: int, content: dict[str, Any], message: str
) -> None:
    opened = await account.open()
    account.vast.refuses["rent"] = [(status, content, {})]
    if status == 403:
        account.vast.lies["rent"] = ""  # the file documents no answer 403
    with pytest.raises(FleetError, match=message) as refused:
        await opened.create(spec(1))
    assert refused.value.definite
    assert not isinstance(refused.value, ShortageError)
    assert account.vast.instances == {}
    assert await opened.list() == []


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (Resources(labels={"rack": "7"}), "the label 'rack' means nothing to Vast, which knows gpu_name and region"),
        (Resources(gpus=0), "rents no machine without a GPU"),
    ],
)
async def test_what_vast_cannot_place_by_is_refused(account: Account, resources: Resources, message: str) -> None:
    opened = await account.open()
    with pytest.raises(FleetError, match=message):
        await opened.create(spec(1, resources=resources))
    with pytest.raises(FleetError, match="no name of a folder"):
        opened.check_backend({}, "../null")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"api_key_file": "/no/such"}, r"key cannot be read from /no/such \(No such file or directory\): correct"),
        ({"api_key_file": ""}, r"has no key: name its file in api_key_file, or set NULLWORKER_VAST_KEY\.$"),
        ({"url": "http://example.com"}, r"'http://example.com' is no https:// address: the account's key is sent"),
        ({"url": "http://127.0.0.1:9"}, r"Vast at http://127.0.0.1:9 cannot be reached \(.*\)\.$"),
        ({"regions": ["Sweden"]}, "'Sweden' is no two-letter code of a country"),
        ({"repository": "--upload-pack=x"}, "is no URL that git could clone"),
        ({"bid_per_hour": 0.9}, "bid_per_hour of .fleet.vast. is over price_per_hour_max"),
        ({"spend_per_day_max": 0}, "wrong .*spend_per_day_max.*correct .fleet.vast."),
        ({"offers_s": 1}, "wrong .*offers_s"),
        ({"gpus": 2}, "unknown field `gpus`"),
    ],
)
async def test_bad_settings_are_one_sentence(
    account: Account, settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NULLWORKER_VAST_KEY", raising=False)
    monkeypatch.setenv("VAST_API_KEY", "the engine's own, which Vast is never sent")
    with pytest.raises(FleetError, match=message):
        await account.open(**settings)
    assert account.vast.calls == []


async def test_a_wrong_key_and_another_server_are_told_at_the_start(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NULLWORKER_VAST_KEY", "wrong-key")
    with pytest.raises(
        FleetError, match=r"^Vast refuses the key \(Invalid user key\): put the account's key into"
    ) as it:
        await account.open(api_key_file="")
    assert "wrong-key" not in str(it.value) + caplog.text
    account.vast.lies["list"] = "<html>welcome"
    with pytest.raises(FleetError, match="Vast's answer to the request to list the instances is not as documented"):
        await account.open()


async def test_the_questions_are_few(account: Account) -> None:
    opened = await account.open(instances_s=30.0)
    account.vast.calls.clear()
    for worker_id in range(1, 11):
        await opened.create(spec(worker_id))
    for _ in range(50):
        await opened.list()
    assert account.vast.calls == ["search", *["rent"] * 10]


async def test_offers_that_are_used_up_are_looked_for_again(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search answers with so many at most: when all of them are rented, there may be more behind them."""
    monkeypatch.setattr("nullworker.fleets.vast.offers.OFFERS_MAX", 2)
    monkeypatch.setattr("nullworker.fleets.vast.rest.SPACING_S", dict.fromkeys(SPACING_S, 0.0))
    account.vast.offers = [offer(number) for number in range(1, 6)]
    opened = await account.open()
    for worker_id in range(1, 6):
        await opened.create(spec(worker_id))
    assert len(account.vast.rented) == 5
    assert account.vast.calls.count("search") == 3
    with pytest.raises(ShortageError, match="Vast has no offer of"):
        await opened.create(spec(6))


@pytest.mark.long
async def test_a_thousand_are_ordered_once_each_and_asked_for_together(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vast's own limits, by which this would take 75 minutes, are left out: those of orders and of searches."""
    monkeypatch.setattr("nullworker.fleets.vast.rest.SPACING_S", dict.fromkeys(SPACING_S, 0.0))
    monkeypatch.setattr("nullworker.fleets.vast.market.SEARCHES_S", 0.0)
    account.vast.offers = [offer(number) for number in range(1, 1101)]
    opened = await account.open(instances_s=30.0, offers_s=3600.0, spend_per_day_max=100_000.0)
    account.vast.calls.clear()
    began_s = asyncio.get_running_loop().time()
    for first in range(1, 1001, 50):
        await asyncio.gather(*(opened.create(spec(worker_id)) for worker_id in range(first, first + 50)))
        await opened.list()
    passed_s = asyncio.get_running_loop().time() - began_s
    calls = Counter(account.vast.calls)
    assert await states(opened) == dict.fromkeys(range(1, 1001), RUNNING)
    assert calls["rent"] == 1000
    assert calls["search"] <= 1000 / OFFERS_MAX + 1, "offers are kept, and looked for again when they are used up"
    assert calls["list"] <= (1 + passed_s // 30) * 40, "pages of 25, which Vast gives, at most every 30 s"
    assert set(calls) <= {"rent", "search", "list"}
