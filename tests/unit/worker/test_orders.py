"""What a worker does that its engine asks of it: once, and what came of it is in its reports."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from vastai.serverless.server.lib.data_types import Session

from nullworker.worker.orders import Orders
from nullworker.worker.release import ReleaseError
from nullworker.worker.sessions import SessionTable


class Released:
    """Ends sessions as the framework does, or fails to."""

    def __init__(self, sessions: SessionTable, problem: str = "") -> None:
        self.sessions = sessions
        self.problem = problem

    async def release(self, session: Any) -> bool:
        if self.problem:
            raise ReleaseError(self.problem)
        self.sessions.pop(session.session_id, None)
        return True


def held(problem: str = "", max_age_s: float = 86_400.0) -> tuple[SessionTable, Orders, list[int]]:
    """A worker that holds request 17."""
    sessions, woken = SessionTable(600.0, max_age_s), []
    released: Any = Released(sessions, problem)
    orders = Orders(sessions, released, lambda: woken.append(1))
    now = time.time()  # noqa: TID251 - the framework's clock
    sessions["s"] = Session(
        auth_data={},
        created_at=now,
        expiration=now + 60.0,
        lifetime=60.0,
        on_close_route=None,
        on_close_payload=None,
        request_idx=17,
        session_id="s",
    )
    return sessions, orders, woken


def order(number: int, act: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "act": act, "request_idx": 17, **more}


async def test_an_extension_holds_it_for_so_long_and_is_done_once() -> None:
    sessions, orders, woken = held()
    session = sessions.held
    assert session is not None
    orders.take({"success": True, "orders": [order(1, "extend", seconds=3_600)]})
    left_s = session.expiration - time.time()  # noqa: TID251 - as above
    assert 3_500 < left_s <= 3_601
    assert orders.told() == {"orders_done": [{"id": 1, "refusal": ""}]}
    assert woken == [1]
    orders.take({"orders": [order(1, "extend", seconds=7_200)]})
    assert session.expiration - time.time() <= left_s + 1  # noqa: TID251 - as above


async def test_an_extension_shortens_nothing_and_passes_no_greatest_age() -> None:
    sessions, orders, _ = held(max_age_s=100.0)
    session = sessions.held
    assert session is not None
    orders.take({"orders": [order(1, "extend", seconds=1)]})
    assert session.expiration - time.time() > 50  # noqa: TID251 - as above
    orders.take({"orders": [order(2, "extend", seconds=5_000)]})
    first, second = orders.told()["orders_done"]
    assert first["refusal"] == ""
    assert second["refusal"].startswith("It is held for 100 s from now")
    assert session.expiration - time.time() <= 101  # noqa: TID251 - as above


@pytest.mark.parametrize("problem", ["", "The worker's own /session/end did not end the session."])
async def test_an_end_releases_it(problem: str) -> None:
    sessions, orders, _ = held(problem)
    orders.take({"orders": [order(1, "end")]})
    for _ in range(5):
        await asyncio.sleep(0)
    assert (sessions.held is None) == (problem == "")
    assert orders.told()["orders_done"] == [{"id": 1, "refusal": problem}]


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        (order(1, "dance"), "The worker knows no such order."),
        (order(1, "extend", seconds=-5), "The worker knows no such order."),
        ({**order(1, "end"), "request_idx": 99}, "The worker does not hold request 99 any more."),
    ],
)
async def test_what_makes_no_sense_is_refused_and_changes_nothing(wrong: dict[str, Any], refusal: str) -> None:
    sessions, orders, _ = held()
    orders.take({"orders": [wrong]})
    assert orders.told()["orders_done"] == [{"id": 1, "refusal": refusal}]
    assert sessions.held is not None


@pytest.mark.parametrize("answer", [None, [], {"success": True}, {"orders": 5}, {"orders": [1, None, {"id": "x"}]}])
async def test_any_other_answer_is_passed_over(answer: object) -> None:
    _, orders, woken = held()
    orders.take(answer)
    assert orders.told() == {"orders_done": []}
    assert woken == []


async def test_the_consumer_s_job_is_told_while_it_is_held() -> None:
    sessions, orders, woken = held()
    session = sessions.held
    assert session is not None
    orders.job(session, "tile 17")
    assert orders.told()["jobs"] == [{"request_idx": 17, "job": "tile 17"}]
    assert woken == [1]
    orders.take({"success": True})
    sessions.pop("s")
    assert orders.told()["jobs"] == [{"request_idx": 17, "job": "tile 17"}]  # the report before may have missed it
    orders.take({"success": True})
    assert "jobs" not in orders.told()
