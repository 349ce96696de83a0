"""``nullworker status``, ``explain`` and ``logs`` against a real engine with real workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.integration.engine.kit import ENDPOINT, Running, config, endpoint_of, quick, running
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("P13")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """An engine whose worker 1 is held by one request, while another waits."""
    settings = config(tmp_path_factory.mktemp("engine"), quick(max_workers=1))
    async with running(settings) as engine, endpoint_of(engine) as endpoint:
        session = await endpoint.session(cost=100, lifetime=600)
        asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=60))
        await until(lambda: len(engine.server.driver.engine.state.reservations) == 2, "another waits")
        yield engine
        asking.cancel()
        await asyncio.wait([asking])
        await session.close()


async def say(engine: Running, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nullworker.cli.main", *arguments, "--instance", engine.url, "--api-key", engine.key,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return process.returncode, out.decode(), err.decode()


async def told(engine: Running, *about: str) -> list[str]:
    """The lines of an explanation: the answer, an empty one, the story."""
    code, out, err = await say(engine, "explain", *about)
    assert code == 0, err
    return out.splitlines()


def requests_of(engine: Running) -> tuple[int, int]:
    """The numbers of the one that holds the worker and of the one that waits."""
    holder, waiter = sorted(engine.server.driver.engine.state.reservations)
    return holder, waiter


async def test_why_a_worker_is_up(engine: Running) -> None:
    holder, _ = requests_of(engine)
    answer, _, *story = await told(engine, "worker", "1")
    assert re.fullmatch(rf"Worker 1 is up because it holds request {holder} for \d+\.\d s\.", answer)
    assert "create" in story[0]
    assert "active perf 0 of 100 wanted" in story[0]


async def test_why_a_request_waits(engine: Running) -> None:
    holder, waiter = requests_of(engine)
    answer = (await told(engine, "request", str(waiter)))[0]
    assert re.match(rf"Request {waiter} waits for \d+\.\d s, number 1 of 1, because 1 worker is held", answer)
    held = (await told(engine, f"request-{holder}"))[0]
    assert re.fullmatch(rf"Request {holder} holds worker 1 for \d+\.\d s\.", held)


async def test_what_an_endpoint_has_and_wants(engine: Running) -> None:
    answer, _, *story = await told(engine, ENDPOINT)
    assert answer.startswith(f"{ENDPOINT} has 1 worker held, 0 free, 0 coming up: a load of 200 (held 100,")
    assert "1 wait" in answer
    assert len(story) >= 3
    assert len(await told(engine, ENDPOINT, "--tail", "0")) == 1


async def test_the_engine_itself(engine: Running) -> None:
    answer = (await told(engine, "engine"))[0]
    assert answer.startswith("The engine has 1 endpoint with 1 worker, and 1 wait.")


@pytest.mark.parametrize("about", [("nonsense",), ("worker", "99"), ("request", "12345678901234567890")])
async def test_what_is_not_known_is_one_sentence(engine: Running, about: tuple[str, ...]) -> None:
    code, out, err = await say(engine, "explain", *about)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


async def test_status_in_words_and_in_json(engine: Running) -> None:
    code, out, _ = await say(engine, "status")
    assert code == 0
    assert f"{ENDPOINT} (endpoint 1, active)" in out
    assert re.search("^  wanted .* requested 1 worker with .* 1 waiting because 1 worker is held", out, re.MULTILINE), (
        "folded, and no terminal"
    )
    code, out, _ = await say(engine, "status", "--json")
    answer: dict[str, Any] = json.loads(out)
    (row,) = answer["endpoints"]
    assert [worker["state"] for worker in row["workers_list"]] == ["held"]
    assert answer["complaints"] == []
    assert answer["usage_s"]["2"]["held"] > 0
    assert engine.key not in out


async def test_logs_at_their_levels(engine: Running) -> None:
    code, few, _ = await say(engine, "logs", ENDPOINT, "--level", "0")
    assert code == 0
    assert "create" in few
    assert "grant" not in few
    _, more, _ = await say(engine, "logs", ENDPOINT, "--level", "2", "--json")
    kinds = [json.loads(line)["kind"] for line in more.splitlines()]
    assert {"create", "worker_ready", "grant"} <= set(kinds)


@pytest.mark.long
async def test_a_store_that_cannot_be_written_is_complained_of_and_served_on(engine: Running) -> None:
    well = (await engine.call("GET", "/healthz"))[1]
    assert well == {"ok": True, "well": True}
    path = engine.server.state_dir / "engine.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # no other connection can write now
        await engine.call("PUT", f"/api/v0/endptjobs/{engine.endpoint_id()}/", {"target_queue_time": 0.6})
        await until(lambda: bool(engine.server.store.error), "the store's writer has given up for now")
        assert (await engine.call("GET", "/healthz"))[1] == {"ok": True, "well": False}
        _, out, _ = await say(engine, "status")
        assert "The store cannot be written" in out
        assert "database is locked" in (await told(engine, "engine"))[0]
        other.execute("ROLLBACK")
    await until(lambda: not engine.server.store.error, "it is written again")
    assert (await engine.call("GET", "/healthz"))[1] == {"ok": True, "well": True}


async def test_status_begins_with_one_sentence_for_each_endpoint(engine: Running) -> None:
    code, out, err = await say(engine, "status", "--waiting")
    assert code == 0, err
    first = out.splitlines()[0]
    assert first == (f"{ENDPOINT} (endpoint 1, active): 1 of 1 held, max_workers 1, 1 waits, no time can be told")
    assert "because 1 worker is held, and max_workers is 1" in out
    assert "1 held, and no hold was seen to its end yet" in out
    assert "1 request waits." in out


async def test_why_it_was_so_a_moment_ago(engine: Running) -> None:
    _, waiter = requests_of(engine)
    await until(lambda: engine.server.keeper.charts[engine.endpoint_id()][-1].waiting == 1)
    answer, *_ = await told(engine, "request", str(waiter), "--at", "-0.1s")
    assert f"Request {waiter} waited at " in answer
    assert "because 1 worker is held, and max_workers is 1" in answer
    code, _, err = await say(engine, "explain", ENDPOINT, "--at", "yesterday")
    assert code == 2
    assert "yesterday is no time" in err


async def test_without_a_dispatcher_there_are_no_queues(engine: Running) -> None:
    assert (await say(engine, "queues"))[1].startswith("No dispatcher has told this engine of a queue")


async def test_what_an_operator_did_is_in_the_audit_log(engine: Running) -> None:
    code, out, err = await say(engine, "drain", "99", "--reason", "it is tired")
    assert (code, out) == (1, "")
    assert "There is no worker 99" in err
    code, out, err = await say(engine, "audit", "--tail", "1")
    assert code == 0, err
    assert "account key, nullworker command line 127.0.0.1  drain a worker (/api/v0/drain/): worker_id 99" in out
    assert "; because it is tired; refused: There is no worker 99" in out


async def test_keys_are_made_listed_rotated_and_revoked(engine: Running) -> None:
    code, key, err = await say(engine, "keys", "create", "wall", "--role", "read", "--expires", "90d")
    assert code == 0, err
    assert (await engine.call("GET", "/api/v0/status/", key=key.strip()))[0] == 200
    assert (await engine.call("PUT", "/api/v0/endptjobs/1/", {"max_workers": 2}, key=key.strip()))[0] == 403
    assert (await engine.call("GET", "/api/v0/endptjobs/", key=key.strip()))[0] == 403  # its rows have keys
    out = (await say(engine, "keys"))[1]
    assert re.search(r"wall +read +all endpoints", out)
    assert key.strip() not in out
    code, rotated, err = await say(engine, "keys", "rotate", "wall", "--overlap", "0")
    assert code == 0, err
    assert (await engine.call("GET", "/api/v0/status/", key=key.strip()))[0] == 401
    assert (await engine.call("GET", "/api/v0/status/", key=rotated.strip()))[0] == 200
    assert (await say(engine, "keys", "revoke", "wall", "--reason", "lost"))[0] == 0
    assert (await engine.call("GET", "/api/v0/status/", key=rotated.strip()))[0] == 401
    code, _, err = await say(engine, "keys", "revoke", "wall")
    assert code == 1
    assert "There is no key called wall that is good" in err
    assert "revoke a key (/api/v0/keys/revoke/)" in (await say(engine, "audit", "--tail", "1"))[1]
    code, _, err = await say(engine, "keys", "create", "ci", "--role", "route", "--expires", "soon")
    assert code == 2
    assert "write 30m, 12h or 90d" in err
