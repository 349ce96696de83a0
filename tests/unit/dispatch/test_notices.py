"""Workers on this machine say that a reservation is over, at a door that opens once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from nullworker.dispatch.notices import Notices
from nullworker.worker.callbacks import Callbacks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def notices() -> AsyncIterator[Notices]:
    notices = Notices()
    await notices.open()
    yield notices
    await notices.close()


async def post(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.post(url, json={"session_id": "s"}) as answer:
        return answer.status


async def test_a_worker_that_knocks_is_heard_once(notices: Notices) -> None:
    heard: list[str] = []
    url = notices.door(lambda: heard.append("a"))
    other = notices.door(lambda: heard.append("b"))
    assert (await post(url), await post(url), await post(other)) == (204, 404, 204)
    assert heard == ["a", "b"]


async def test_a_door_that_was_shut_is_not_there(notices: Notices) -> None:
    url = notices.door(lambda: pytest.fail("nobody is at home"))
    notices.shut(url)
    notices.shut(url)
    assert await post(url) == 404


async def test_nobody_else_can_guess_a_door(notices: Notices) -> None:
    url = notices.door(lambda: pytest.fail("that was not it"))
    assert len(url.rpartition("/")[2]) >= 20
    assert await post(url[:-1]) == 404


async def test_only_this_machine_is_listened_to(notices: Notices) -> None:
    assert notices.door(lambda: None).startswith("http://127.0.0.1:")


async def test_a_worker_calls_it_though_it_calls_nothing_else_on_its_machine(notices: Notices) -> None:
    for _ in range(50):  # the secret is another each time
        await Callbacks(private=False).check(notices.door(lambda: None))
