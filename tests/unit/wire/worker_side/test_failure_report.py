import asyncio
from collections.abc import AsyncIterator

import pytest

from nullworker.wire.worker_side.failure_report import report
from tests.kit.stub_engine import StubEngine

ENV = {
    "CONTAINER_ID": "7",
    "MASTER_TOKEN": "token",
    "WORKER_PORT": "3000",
    "VAST_TCP_PORT_3000": "40123",
    "PUBLIC_IPADDR": "10.0.0.9",
}


@pytest.fixture
async def engine() -> AsyncIterator[StubEngine]:
    async with StubEngine(worker_id=7, token="token").running() as engine:
        yield engine


async def is_reported(env: dict[str, str], message: str) -> bool:
    return await asyncio.to_thread(report, env, message)


async def test_the_short_form_goes_to_the_first_address_that_accepts_it(engine: StubEngine) -> None:
    env = ENV | {"REPORT_ADDR": f"nonsense,http://127.0.0.1:1, {engine.url}/ ,{engine.url}"}
    assert await is_reported(env, "Port 3000 is taken.")
    body = {"id": 7, "mtoken": "token", "version": "1.1.0", "error_msg": "Port 3000 is taken."}
    told = [(report.path, report.body) for report in engine.reports]
    assert told == [("/worker_status/", {**body, "url": "http://10.0.0.9:40123"})]


async def test_the_url_is_empty_where_it_is_not_known(engine: StubEngine) -> None:
    env = {"CONTAINER_ID": "7", "MASTER_TOKEN": "token", "REPORT_ADDR": engine.url}
    assert await is_reported(env, "x")
    assert engine.reports[0].body["url"] == ""


async def test_a_refusal_is_not_taken_for_an_answer(engine: StubEngine) -> None:
    assert not await is_reported(ENV | {"REPORT_ADDR": engine.url, "MASTER_TOKEN": "another"}, "x")


@pytest.mark.parametrize("env", [{}, ENV, ENV | {"REPORT_ADDR": "file:///etc/passwd"}, ENV | {"CONTAINER_ID": "x"}])
def test_without_an_engine_or_a_number_nothing_is_reported(env: dict[str, str]) -> None:
    assert not report(env, "x")
