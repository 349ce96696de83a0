"""A dispatcher's metrics on a port of its own: for programs of this machine, and for no web page."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from nullworker.cli.errors import UserError
from nullworker.cli.metrics_port import serving
from tests.ports import free_port
from tests.unit.dispatch.harness import DispatchHarness

if TYPE_CHECKING:
    from pathlib import Path


async def ask(port: int, path: str = "/metrics", **headers: str) -> tuple[int, str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession(headers=named) as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def test_the_queues_are_served_without_their_passwords(tmp_path: Path) -> None:
    port, harness = free_port(), DispatchHarness(tmp_path / "dispatch.db")
    binding = harness.binding(queue="redis://:s3cret@host/0?queue=a")
    await harness.consider(binding, 5, 2)
    async with serving(port) as metrics:
        assert "nullworker_queue_depth{" not in (await ask(port))[1]
        metrics.bindings = [binding]
        status, text = await ask(port)
    await harness.end(binding)
    harness.store.close()
    assert status == 200
    (line,) = [line for line in text.splitlines() if line.startswith("nullworker_queue_depth{")]
    assert line.endswith(" 5.0")
    assert "s3cret" not in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}]
)
async def test_a_web_page_gets_nothing(headers: dict[str, Any]) -> None:
    port = free_port()
    async with serving(port):
        assert (await ask(port, **headers))[0] == 403
        assert (await ask(port, "/"))[0] == 404


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Metrics cannot be served on port {port} .*; give another with --metrics"):
            async with serving(port):
                pass
