"""Workers on this machine announce the end of a session at a URL that works once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from nullworker.dispatch.close_webhook import CloseWebhook
from nullworker.worker.callbacks import Callbacks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def webhook() -> AsyncIterator[CloseWebhook]:
    webhook = CloseWebhook()
    await webhook.open()
    yield webhook
    await webhook.close()


async def post(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.post(url, json={"session_id": "s"}) as answer:
        return answer.status


async def test_a_url_calls_its_function_once(webhook: CloseWebhook) -> None:
    called: list[str] = []
    url = webhook.add(lambda: called.append("a"))
    other = webhook.add(lambda: called.append("b"))
    assert (await post(url), await post(url), await post(other)) == (204, 404, 204)
    assert called == ["a", "b"]


async def test_a_removed_url_is_unknown(webhook: CloseWebhook) -> None:
    url = webhook.add(lambda: pytest.fail("it was removed"))
    webhook.remove(url)
    webhook.remove(url)
    assert await post(url) == 404


async def test_a_url_cannot_be_guessed(webhook: CloseWebhook) -> None:
    url = webhook.add(lambda: pytest.fail("that was not the URL"))
    assert len(url.rpartition("/")[2]) >= 20
    assert await post(url[:-1]) == 404


async def test_only_this_machine_is_listened_to(webhook: CloseWebhook) -> None:
    assert webhook.add(lambda: None).startswith("http://127.0.0.1:")


async def test_a_worker_calls_it_though_it_calls_nothing_else_on_its_machine(webhook: CloseWebhook) -> None:
    for _ in range(50):  # the secret is another each time
        await Callbacks(private=False).check(webhook.add(lambda: None))
