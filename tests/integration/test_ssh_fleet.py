"""Workers on machines that are reached by SSH, with real sshd's and real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from nullworker.fleets.base import FleetError, InstanceState, PlaceFree, Resources, ShortageError
from nullworker.fleets.ssh import SshFleet
from nullworker.testing.fleets import check_fleet
from tests.integration.process_fleets import alive, kill
from tests.integration.ssh_hosts import Boxes, boxes_in, is_agent, make_key, needs_sshd
from tests.kit.fleet_faults import not_given
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.fleets.base import Fleet
    from nullworker.testing.fleet_kit import OnExit, OnNotice

pytestmark = needs_sshd
RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Boxes]:
    async with boxes_in(tmp_path) as boxes:
        yield boxes


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 3])
async def test_it_passes_the_conformance_kit(tmp_path: Path, count: int) -> None:
    async with boxes_in(tmp_path, count) as boxes:

        async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
            return await SshFleet.open(boxes.settings, mark, on_exit, on_notice)

        async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
            await kill(boxes.host_of(worker_id, mark).pid(worker_id, mark))

        @contextlib.asynccontextmanager
        async def shortage(fleet: Fleet, _mark: str) -> AsyncIterator[None]:
            assert isinstance(fleet, SshFleet)
            hosts = dict(fleet._hosts)
            for name, host in hosts.items():
                fleet._hosts[name] = type(host)(host=name, slots=len(list(fleet._placements.on(name))))
            yield
            fleet._hosts.update(hosts)

        result = await check_fleet(
            make_fleet,
            crash=crash,
            shortage=shortage,
            faults=boxes.faults(),
            make_spec=boxes.spec,
            settings=boxes.settings,
            quiet_s=0.2,
            lag_s=5.0,
        )
        assert not_given(result) == {"kept", "unstarted", "ends_soon", "moved"}
        assert boxes.left() == []


def hosts(boxes: Boxes, **of_each: object) -> list[dict[str, object]]:
    return [{"host": host.address, "port": host.port, **of_each} for host in boxes.hosts]


async def states(fleet: SshFleet) -> dict[int, InstanceState]:
    return {instance.worker_id: instance.state for instance in await fleet.list()}


# --------------------------------------------------------------------------------------------- what runs on a host


async def test_a_worker_has_what_it_needs_on_the_host(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its identity, the address that SSH reached, GPUs of its own, and a copy of the user's code."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (boxes.path / "job").mkdir()
    (boxes.path / "job/consumer.sh").write_text("#!/bin/sh\n")
    (boxes.path / "job/consumer.sh").chmod(0o755)
    settings: dict[str, Any] = {
        "code": boxes.path / "job",
        "gpus_per_worker": 1,
        "hosts": hosts(boxes, gpus=["4", "5"]),
    }
    fleet = await boxes.open(**settings)
    for worker_id in (1, 2, 3, 4):
        await fleet.create(boxes.spec(worker_id, "open_book", consumer="./consumer.sh", env={"MINE": "yes"}))
    with pytest.raises(ShortageError, match=r"No host has room for worker 5: 127.0.0.2 has 2 workers in 2 slots; "):
        await fleet.create(boxes.spec(5))
    about = {worker_id: (await boxes.about(worker_id))["env"] for worker_id in (1, 2, 3, 4)}
    seen = [(env["PUBLIC_IPADDR"], env["CUDA_VISIBLE_DEVICES"]) for env in about.values()]
    assert sorted(seen) == [(host.address, gpu) for host in boxes.hosts for gpu in ("4", "5")]
    env = about[1]
    assert (env["CONTAINER_ID"], env["MASTER_TOKEN"], env["REPORT_ADDR"]) == ("1", "token", boxes.report_addr)
    assert env["MINE"] == "yes"
    assert "AWS_SECRET_ACCESS_KEY" not in env
    consumer = Path(env["NULL_CONSUMER_DIR"]) / "consumer.sh"
    assert os.access(consumer, os.X_OK)
    assert consumer.is_relative_to(boxes.host_of(1).home / ".nullworker/code")
    listed = {each.worker_id: each for each in await fleet.list()}
    assert listed[1].address == f"{boxes.host_of(1).address}:{env['WORKER_PORT']}"
    assert (listed[1].endpoint, listed[1].workergroup_id) == ("endpoint", 1)
    await fleet.close()
    codes = [sorted((host.home / ".nullworker/code").iterdir()) for host in boxes.hosts]
    await (await boxes.open(**settings)).close(destroy=True)
    assert [sorted((host.home / ".nullworker/code").iterdir()) for host in boxes.hosts] == codes, "it was there"
    assert [len(each) for each in codes] == [1, 1]


async def test_who_goes_where(boxes: Boxes) -> None:
    """To the host with the most free slots, of those that have what is wanted."""
    one, two = boxes.hosts
    table = [
        {"host": one.address, "port": one.port, "slots": 1, "labels": {"disk": "fast"}, "price_per_hour": 0.5},
        {"host": two.address, "port": two.port, "slots": 3, "cpus": 4, "memory_gb": 8},
    ]
    fleet = await boxes.open(hosts=table)
    await fleet.create(boxes.spec(1))
    assert boxes.host_of(1) is two
    await fleet.create(boxes.spec(2, resources=Resources(labels={"disk": "fast"})))
    assert boxes.host_of(2) is one
    with pytest.raises(ShortageError, match=r"127.0.0.2 has 1 worker in 1 slot\.$"):
        await fleet.create(boxes.spec(3, resources=Resources(labels={"disk": "fast"})))
    await fleet.create(boxes.spec(3, resources=Resources(cpus=3, memory_gb=8)))
    with pytest.raises(ShortageError, match=r"127.0.0.3 has 3 of cpus = 4 in use, and 2 are wanted"):
        await fleet.create(boxes.spec(4, resources=Resources(cpus=2)))
    with pytest.raises(
        FleetError, match=r"No host can have worker 4: .*; 127.0.0.3 has cpus = 4, and 9 are wanted"
    ) as no:
        await fleet.create(boxes.spec(4, resources=Resources(cpus=9)))
    assert not isinstance(no.value, ShortageError), "it is not to be had later either"
    assert {each.worker_id: each.price_per_hour for each in await fleet.list()} == {1: None, 2: 0.5, 3: None}
    await fleet.stop(1)
    await fleet.create(boxes.spec(4))
    with pytest.raises(ShortageError):
        await fleet.create(boxes.spec(5))
    await fleet.start(1)  # a stopped one keeps its slot


async def test_a_log_is_read_from_the_host_also_after_the_worker(boxes: Boxes) -> None:
    fleet = await boxes.open()
    await fleet.create(boxes.spec(1, "brief"))
    await until(lambda: boxes.exits)
    assert boxes.exits[0][0] == 1
    assert (await fleet.read_log(1, 1000)).startswith(b"first words")
    await fleet.destroy(1)
    assert (await fleet.read_log(1, 1000)).startswith(b"first words")


# ------------------------------------------------------------------------------------------- hosts that do not answer


async def test_a_host_that_does_not_answer_is_a_shortage_and_no_death(boxes: Boxes) -> None:
    fleet = await boxes.open()
    for worker_id in (1, 2, 3, 4):
        await fleet.create(boxes.spec(worker_id))
    lost = boxes.host_of(1)
    there = [worker_id for worker_id in (1, 2, 3, 4) if boxes.host_of(worker_id) is lost]
    pids = {worker_id: boxes.host_of(worker_id).pid(worker_id) for worker_id in (1, 2, 3, 4)}
    lost.cut()
    await until(lambda: fleet._connections[lost.address].hello is None)
    assert await states(fleet) == dict.fromkeys((1, 2, 3, 4), RUNNING), "they are listed as they were"
    assert all(map(alive, pids.values())), "and go on"
    with pytest.raises(FleetError, match=f"Host {lost.address} does not answer: .*") as refused:
        await fleet.destroy(there[0])
    assert refused.value.definite
    await fleet.create(boxes.spec(5))
    assert boxes.host_of(5) is not lost
    boxes.host_of(5).cut()
    await until(lambda: all(each.hello is None for each in fleet._connections.values()))
    with pytest.raises(ShortageError, match=r"127.0.0.2 does not answer: .*; 127.0.0.3 does not answer: "):
        await fleet.create(boxes.spec(6))
    assert boxes.exits == []
    assert boxes.notices == []
    await kill(pids[there[1]])
    lost.start()
    await until(lambda: boxes.notices == [PlaceFree()], "that it is back is told")
    assert [worker_id for worker_id, _ in boxes.exits] == [there[1]], "and what ended meanwhile"
    await fleet.destroy(there[0])
    assert await states(fleet) == {
        each: EXITED if each == there[1] else RUNNING for each in (1, 2, 3, 4, 5) if each != there[0]
    }


async def test_an_engine_that_starts_while_a_host_is_away_knows_what_is_there(boxes: Boxes) -> None:
    first = await boxes.open()
    await first.create(boxes.spec(1))
    await first.create(boxes.spec(2))
    await first.stop(2)
    await first.close()
    before = {host.address for host in boxes.hosts}
    for host in boxes.hosts:
        host.cut()
    second = await boxes.open()
    assert await states(second) == {1: RUNNING, 2: STOPPED}
    with pytest.raises(FleetError, match="go on: Host"):
        await second.close(destroy=True)
    (boxes.path / "state/fleets/ssh/mark.json").unlink()
    for host in boxes.hosts:
        host.start()
        await host.ready()
    third = await boxes.open()
    assert await states(third) == {1: RUNNING, 2: STOPPED}, "by what hosts say"
    assert {each.endpoint for each in await third.list()} == {"endpoint"}
    assert set(third._connections) == before
    await third.close()
    fourth = await boxes.open(hosts=hosts(boxes)[1:])
    assert len(await fourth.list()) == 1, "what is on a host that is no longer named is not known any more"


async def test_an_answer_to_a_creation_that_is_lost_starts_nothing_twice(tmp_path: Path) -> None:
    async with boxes_in(tmp_path, 1) as boxes:
        (host,) = boxes.hosts
        fleet = await boxes.open()
        (agent,) = host.agents
        agent.suspend()
        try:
            creating = asyncio.ensure_future(fleet.create(boxes.spec(1)))
            await until(lambda: fleet._creating)
            await asyncio.sleep(0.2)  # it is on its way, and nothing says when it has arrived
            host.cut()
            with pytest.raises(FleetError, match="broke") as lost:
                await creating
            assert not lost.value.definite
            assert await fleet.list() == [], "that it is there was not said"
            with pytest.raises(FleetError, match="does not answer") as again:
                await fleet.create(boxes.spec(1))
            assert not again.value.definite, "it may still be there"
        finally:
            agent.resume()  # it carries out what it was told, and ends with its connection
        host.start()
        await until(lambda: boxes.notices)
        await fleet.create(boxes.spec(1))
        assert await states(fleet) == {1: RUNNING}
        assert len(boxes.left()) == 1
        await fleet.destroy(1)
        assert boxes.left() == []


async def test_a_connection_on_which_nothing_is_heard_is_made_again(tmp_path: Path) -> None:
    """The new agent ends the one before it, which does not know that its connection is dead."""
    async with boxes_in(tmp_path, 1) as boxes:
        (host,) = boxes.hosts
        fleet = await boxes.open(silence_s=3)
        await fleet.create(boxes.spec(1))
        old = host.daemons[1:]
        for daemon in old:  # those of this connection alone: another can be made
            daemon.suspend()
        await until(lambda: fleet._connections[host.address].hello is None)
        assert "127.0.0.2" in fleet._connections[host.address].down_sentence()
        await until(lambda: boxes.notices == [PlaceFree()])
        home = str(host.home)
        await until(lambda: sum(is_agent(each, home) for each in psutil.process_iter()) == 1, "the old one ends")
        assert await states(fleet) == {1: RUNNING}
        await fleet.destroy(1)
        assert await fleet.list() == []


# ---------------------------------------------------------------------------------------------------- bad input


async def why_not(boxes: Boxes, **settings: Any) -> str:
    """What one is told who wants a worker."""
    fleet = await boxes.open(**settings)
    with pytest.raises(ShortageError) as told:
        await fleet.create(boxes.spec(1))
    assert await fleet.list() == []
    await fleet.close()
    message = str(told.value)
    assert message.startswith("No host has room for worker 1: 127.0.0.2 does not answer: ")
    assert message.count("\n") == 0
    return message


async def test_what_is_wrong_with_a_host_is_said_in_one_sentence(tmp_path: Path) -> None:
    async with boxes_in(tmp_path, 1) as boxes:
        (host,) = boxes.hosts
        make_key(tmp_path / "other")
        wrong: dict[str, Any] = {"identity": tmp_path / "other"}
        login = f"ssh -p {host.port} 127.0.0.2"
        assert f"it refuses the login; let {login} work without a password" in await why_not(boxes, **wrong)
        lacking = await why_not(boxes, python="/no/such/python")
        assert "there is no program /no/such/python on it; install Python, or name it by python of" in lacking
        (tmp_path / "old").write_text(f"#!/bin/sh\nexec {boxes.settings['python']} -c "
            "'import sys; sys.version_info = (3, 8); exec(sys.argv[1])' \"$2\"")  # fmt: skip
        (tmp_path / "old").chmod(0o755)
        assert "its Python is 3.8, and workers need 3.10 or later." in await why_not(boxes, python=tmp_path / "old")
        (tmp_path / "known_hosts").write_text("")
        assert f"its key is not known; log in once with {login} and accept it." in await why_not(boxes)
        public = make_key(tmp_path / "new")
        (tmp_path / "known_hosts").write_text(f"[{host.address}]:{host.port} {public}\n")
        changed = await why_not(boxes)
        assert "its key has changed: is it another machine?" in changed
        assert f"ssh-keygen -R '[127.0.0.2]:{host.port}', then {login}." in changed
        host.cut()
        assert "connection refused" in (await why_not(boxes)).lower()


async def test_a_host_that_cannot_reach_the_engine_gets_no_worker(tmp_path: Path) -> None:
    async with boxes_in(tmp_path, 1) as boxes:
        fleet = await boxes.open()
        with pytest.raises(
            FleetError, match=r"cannot reach the engine at http://127.0.0.1:9 \(.*\): set public_url"
        ) as no:
            await fleet.create(boxes.spec(1, report_addr="http://127.0.0.1:9"))
        assert not isinstance(no.value, ShortageError)
        assert await fleet.list() == []
