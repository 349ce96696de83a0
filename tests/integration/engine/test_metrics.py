"""/metrics over HTTP: who may scrape, in which formats, and what a reservation leaves there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from nullworker.engine.auth.keys import Role
from nullworker.wire import paths
from tests.integration.engine.kit import ENDPOINT, Running, config, endpoint_of, quick, running
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running(config(tmp_path_factory.mktemp("engine"), quick(max_workers=1))) as engine:
        yield engine


async def scrape(engine: Running, key: str, accept: str = "") -> tuple[int, str, str]:
    headers = {"Accept": accept, "Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession() as http, http.get(engine.url + paths.METRICS, headers=headers) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def samples(engine: Running) -> dict[tuple[str, ...], float]:
    """All samples: by name and the values of its labels, sorted by the labels' names."""
    _, _, text = await scrape(engine, engine.key)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_readers_may_scrape_and_others_may_not(engine: Running) -> None:
    read_only = engine.server.keys.ring.create("prometheus", Role.READ)[1].reveal()
    endpoint_key = engine.server.keys.endpoint_key(engine.endpoint_id()).reveal()
    assert [(await scrape(engine, key))[0] for key in (engine.key, read_only, endpoint_key, "")] == [200, 200, 401, 401]


async def test_the_format_is_the_one_that_is_asked_for(engine: Running) -> None:
    _, kind, text = await scrape(engine, engine.key)
    assert kind.startswith("text/plain; version=0.0.4")
    assert not text.endswith("# EOF\n")
    _, kind, text = await scrape(engine, engine.key, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_a_reservation_is_counted_from_its_wait_to_its_end(engine: Running) -> None:
    async with endpoint_of(engine) as endpoint:
        session = await endpoint.session(cost=100, lifetime=60.0)
        at_work = await samples(engine)
        await session.close()

    assert at_work["nullworker_workers", ENDPOINT, "held"] == 1
    assert at_work["nullworker_wanted_workers", ENDPOINT] == 1
    assert at_work["nullworker_reservation_wait_seconds_count", ENDPOINT] == 1
    assert at_work["nullworker_worker_start_seconds_count", ENDPOINT, "ready"] == 1
    assert at_work["nullworker_worker_start_seconds_count", ENDPOINT, "granted"] == 1
    assert at_work["nullworker_fleet_calls_total", "processes", "create", "ok"] == 1
    assert at_work["nullworker_decisions_total", "create", "load"] == 1
    assert at_work["nullworker_worker_seconds_total", ENDPOINT, "creating"] > 0
    assert at_work["nullworker_decision_seconds_count",] > 3
    assert at_work["process_resident_memory_bytes",] > 1e6

    await until(lambda: "held" not in engine.workers.values())
    assert (await samples(engine))["nullworker_reservation_held_seconds_count", ENDPOINT] == 1


async def test_refusals_and_queues_are_counted(engine: Running) -> None:
    counters = (("refused_calls", "not_found"), ("refused_calls", "auth_error"), ("limited", "wrong_keys"))
    before = await samples(engine)
    url = 'redis://h/0?queue="a\\b\n'
    queue = {"queue": url, "endpoint": ENDPOINT, "waiting": 7, "held": 2, "read_s_ago": 0.5}
    assert (await engine.call("POST", paths.DISPATCHERS, {"dispatcher": "host process 1", "queues": [queue]}))[0] == 200
    assert (await engine.call("GET", "/nothing"))[0] == 404
    assert (await engine.call("GET", paths.STATUS, key="wrong"))[0] == 401
    found = await samples(engine)
    for name, label in counters:
        counter = f"nullworker_{name}_total", label
        assert found[counter] == before.get(counter, 0.0) + 1
    assert found["nullworker_queue_depth", ENDPOINT, url] == 7
    assert found["nullworker_dispatchers",] == 1
    assert found["nullworker_queue_told_age_seconds", ENDPOINT, url] < 60
