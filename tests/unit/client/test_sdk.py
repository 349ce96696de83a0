"""What the SDK's exceptions mean, and what it tells of its progress."""

from __future__ import annotations

import asyncio

import pytest

from nullworker.client.errors import (
    ClientError,
    EndpointUnknownError,
    EngineRefusedError,
    EngineUnreachableError,
    KeyRefusedError,
    WorkerRefusedError,
)
from nullworker.client.sdk import Progress, reason_of, understand, while_waiting


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_what_passes_by_itself_means_nothing_for_good(status: int) -> None:
    """It is tried again."""
    assert understand(RuntimeError(f"Failed to route endpoint: HTTP {status} - Busy"), "http://e", "x") is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to route endpoint: Cannot connect to host"),
        ConnectionResetError("reset by peer"),
        asyncio.TimeoutError(),
        EngineUnreachableError("http://e", "time-out"),
    ],
)
def test_a_broken_connection_means_nothing_for_good(error: Exception) -> None:
    """It is tried again."""
    assert understand(error, "http://e", "x") is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, EngineRefusedError),
        (401, KeyRefusedError),
        (403, KeyRefusedError),
        (404, EndpointUnknownError),
        (413, EngineRefusedError),
        (422, EngineRefusedError),
    ],
)
def test_a_refusal_is_for_good_and_carries_the_engines_sentence(status: int, kind: type[ClientError]) -> None:
    """Of a JSON body, ``msg``; of anything else, its text."""
    for body in ('{"success": false, "error": "e", "msg": "So it is."}', "So it is."):
        understood = understand(Exception(f"Failed to get endpoints: HTTP {status} - {body}"), "http://e", "x")
        assert type(understood) is kind
        assert (
            "(So it is)" in str(understood) or kind is EndpointUnknownError or f"HTTP {status}: So" in str(understood)
        )


def test_an_answer_that_the_sdk_cannot_read_is_for_good() -> None:
    """It will be the same next time."""
    understood = understand(KeyError("user_id"), "http://e", "x")
    assert isinstance(understood, EngineRefusedError)
    assert "user_id" in str(understood)


def test_our_own_errors_are_what_they_say() -> None:
    """They are not explained a second time."""
    error = WorkerRefusedError("http://w", 500)
    assert understand(error, "http://e", "x") is error


def test_reasons_come_without_the_sdks_preamble() -> None:
    """Nobody needs to know which of its functions failed."""
    assert reason_of(RuntimeError("Failed to route endpoint: HTTP 503 - Busy")) == "HTTP 503 - Busy"


def test_progress_is_told_at_each_change_once() -> None:
    """By whatever the SDK sets."""
    told: list[str] = []
    progress = Progress(told.append)
    for status in ("Queued", "Queued", "Polling", "In Progress"):
        progress.status = status
    assert told == ["New", "Queued", "Polling", "In Progress"]
    assert progress.status == "In Progress"


async def test_two_that_wait_are_not_told_each_others_reasons() -> None:
    """Reasons belong to the task that waits."""
    from nullworker.client.sdk import _reasons

    told: dict[str, list[str]] = {"a": [], "b": []}

    async def wait(name: str) -> None:
        while_waiting(told[name].append)
        tell = _reasons.get()
        assert tell is not None
        tell(name)
        tell(name)

    await asyncio.gather(asyncio.ensure_future(wait("a")), asyncio.ensure_future(wait("b")))
    assert told == {"a": ["a"], "b": ["b"]}
    assert _reasons.get() is None
