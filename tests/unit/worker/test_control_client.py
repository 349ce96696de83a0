"""What is said of a control port that is not there."""

from __future__ import annotations

import aiohttp
import pytest

from nullworker.worker.control_client import ControlGone, ControlPort


async def test_a_port_at_which_nothing_listens_is_told_in_the_systems_words(unused_tcp_port: int) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(ControlGone, match=r"^connection refused$"):
            await ControlPort(http, f"http://127.0.0.1:{unused_tcp_port}").held()
