"""A worker that reports as much as it can, all of it invented: what the engine does and keeps for it is bounded."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from nullworker.core import limits
from nullworker.engine.api.refusals import Kind
from nullworker.engine.api.worker_messages import BYTES_EACH, COST_BURST, COST_PER_S, WAIT_MAX_S
from nullworker.engine.decisions import LINES_BURST, LINES_PER_S
from tests.integration.engine.kit import Running, config, quick, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

pytestmark = [pytest.mark.promise("P2"), pytest.mark.asyncio(loop_scope="module")]

REPORTS = 30
INVENTED = 1_000
#: So much of the journal and so many decisions a report may cost: without bounds it was
#: 340,000 bytes and 2,000.
JOURNAL_BYTES_EACH = 4_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    directory = tmp_path_factory.mktemp("engine")
    settings = replace(config(directory / "state", quick(max_workers=0)), journal=directory / "journal")
    async with running(settings) as engine:
        yield engine


class Attacker:
    """A worker that has joined, and says what it likes."""

    def __init__(self, engine: Running, worker_id: int) -> None:
        self.engine = engine
        self.worker_id = worker_id
        self.token = engine.server.keys.join_token(engine.endpoint_id(), worker_id).reveal()

    async def says(self, http: aiohttp.ClientSession, **fields: Any) -> int:
        body = {
            "id": self.worker_id, "mtoken": self.token, "loadtime": 1.0, "max_perf": 100.0, "cur_load": 0.0,
            "num_requests_recieved": 10**6, "working_request_idxs": [], "url": "http://127.0.0.1:9",
        }  # fmt: skip
        return await self._posts(http, "/worker_status/", {**body, **fields})

    async def ends(self, http: aiohttp.ClientSession, request_idxs: Iterable[int]) -> int:
        requests = [{"request_idx": idx, "status": "Success", "entered_queue_at": 1.0} for idx in request_idxs]
        body = {"worker_id": self.worker_id, "mtoken": self.token, "requests": requests}
        return await self._posts(http, "/delete_requests/", body)

    async def _posts(self, http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> int:
        async with http.post(self.engine.url + path, data=io.BytesIO(json.dumps(body).encode())) as answer:
            return answer.status

    def decided(self, *kinds: str) -> int:
        found = self.engine.server.decisions.about(worker_id=self.worker_id)
        return sum(decision.kind in kinds for decision in found)


def journal_bytes(directory: Path) -> int:
    return (directory.parent / "journal").stat().st_size


async def test_sessions_that_no_report_listed_before_cost_little(engine: Running) -> None:
    attacker = Attacker(engine, 2**40 + 1)
    state = engine.server.driver.engine.state
    before, began_at = journal_bytes(engine.server.config.state), state.now
    async with aiohttp.ClientSession() as http:
        for number in range(REPORTS):
            invented = list(range(number * INVENTED + 1, (number + 1) * INVENTED + 1))
            assert await attacker.says(http, working_request_idxs=invented, seq=number + 1) == 200
            assert len(state.workers[attacker.worker_id].held) <= limits.ADOPTED_AT_ONCE
    most = limits.ADOPTED_AT_ONCE + (state.now - began_at) * limits.ADOPTED_PER_S + 1
    assert attacker.decided("session_adopted") <= most
    assert attacker.decided("session_ended") <= most
    assert attacker.decided("sessions_left_out") == 1 + (state.now - began_at) // limits.LEFT_OUT_NOTE_S
    assert journal_bytes(engine.server.config.state) - before < REPORTS * JOURNAL_BYTES_EACH
    assert engine.server.refusals.counts[Kind.LISTED] >= (REPORTS - 1) * (INVENTED - limits.ADOPTED_AT_ONCE - 1)
    assert not state.workers[attacker.worker_id].endable, "it holds something, for all that is known"


async def test_a_worker_that_gets_ready_all_the_time_does_not_fill_the_decisions(engine: Running) -> None:
    attacker = Attacker(engine, 2**40 + 2)
    state = engine.server.driver.engine.state
    began_at = state.now
    async with aiohttp.ClientSession() as http:
        for number in range(3 * LINES_BURST):
            assert await attacker.says(http, max_perf=float(number % 2), seq=number + 1) == 200
    assert attacker.decided("worker_ready") <= LINES_BURST + (state.now - began_at) * LINES_PER_S + 1


async def test_one_that_sends_without_end_is_slowed_down_and_refused_and_lives(engine: Running) -> None:
    """Messages that count for much each, so that few are needed."""
    attacker = Attacker(engine, 2**40 + 3)
    before = journal_bytes(engine.server.config.state)
    async with aiohttp.ClientSession() as http:
        assert await attacker.says(http) == 200
        answers = [await attacker.ends(http, range(110_000)) for _ in range(2)]
        assert answers == [200, 429], "what waits for more than two seconds is refused"
        assert await attacker.says(http) == 429
    assert engine.server.refusals.counts[Kind.MESSAGE] >= 2
    assert engine.server.refusals.counts[Kind.END] >= 50_000
    assert journal_bytes(engine.server.config.state) - before < 200_000
    worker = engine.server.driver.engine.state.workers[attacker.worker_id]
    assert worker.trust.refused_at > worker.trust.reported_at, "it is known to live"


async def test_who_sends_on_many_connections_at_once_gets_no_more(engine: Running) -> None:
    attacker = Attacker(engine, 2**40 + 4)
    driver = engine.server.driver
    listed = list(range(9_000_000, 9_000_000 + 110_000))  # 1 MB: about a quarter of what is there at once
    began_at = driver.now()
    async with aiohttp.ClientSession() as http:
        answers = await asyncio.gather(*[attacker.says(http, working_request_idxs=listed) for _ in range(12)])
    assert set(answers) == {200, 429}
    each = 990_000 / BYTES_EACH
    assert answers.count(200) * each <= COST_BURST + (driver.now() - began_at + WAIT_MAX_S) * COST_PER_S + each
