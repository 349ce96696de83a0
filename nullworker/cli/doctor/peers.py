"""Gathers what the engine, its workers and the queues answer from here."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nullworker.cli.asking import ask, ask_view
from nullworker.cli.doctor.facts import EndpointFacts, EngineFacts, QueueFacts, WorkerFacts
from nullworker.cli.errors import UserError
from nullworker.client.errors import ClientError
from nullworker.client.instances import STATE_VARIABLE, find_instance, find_key
from nullworker.wire.paths import HEALTH, STATUS
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nullworker.client.instances import Instance

#: Workers that are connected to, and what one may take.
WORKERS_MAX, CONNECT_S = 50, 2.0
QUEUE_S = 15.0
#: A dispatcher tells at least each 30 s.
SILENT_AFTER_S = 120.0
_UP = ("ready", "held")


def engine(instance: str, api_key: str | None, state: Path, wall_s: Callable[[], float]) -> EngineFacts:
    """The engine, asked from here.

    Args:
        instance: as `find_instance` takes it.
        api_key: the key; None: as `find_key` finds it.
        state: the state directory, whose key is sent to an engine on this machine alone.
        wall_s: gives Unix time.

    Raises:
        ClientError: ``instance`` is none.
    """
    found = find_instance(instance)
    if found.url is None:
        return EngineFacts("", found.label, is_ours=False, is_here=False)
    known: dict[str, Any] = {"url": found.url, "label": found.label, "is_here": found.is_here}
    try:
        healthy = ask(found.url, "none", HEALTH).get("ok") is True  # which is asked without a key
        error = "" if healthy else "what answers is no engine"
    except (UserError, ClientError) as refused:
        healthy, error = False, str(refused)
    if not healthy:
        listens = listens_at(found.url)
        error = "nothing listens there" if not listens else error
        return EngineFacts(**known, listens=listens, error=error)
    try:
        key = find_key(found, api_key, {**os.environ, STATE_VARIABLE: str(state)})
        return _answers(found, key, known, wall_s)
    except (UserError, ClientError) as refused:
        return EngineFacts(**known, listens=True, answers=True, key_error=str(refused))


def _answers(found: Instance, key: str, known: dict[str, Any], wall_s: Callable[[], float]) -> EngineFacts:
    from nullworker.views.types import Overview

    assert found.url is not None
    status = ask(found.url, key, STATUS)
    before_s = wall_s()
    overview = ask_view(found.url, key, Overview, "overview")
    middle_s = (before_s + wall_s()) / 2
    rows = [row for endpoint in status["endpoints"] for row in endpoint["workers_list"] if row["state"] in _UP]
    return EngineFacts(
        **known,
        listens=True,
        answers=True,
        version=overview.version,
        clock_ahead_s=overview.at_s - middle_s,
        complaints=overview.complaints,
        endpoints=tuple(
            EndpointFacts(
                each.name,
                each.why,
                each.why_code,
                next((group.last_error for group in each.workergroups if group.failures), ""),
            )
            for each in overview.endpoints
        ),
        workers=tuple(asyncio.run(_workers(rows))),
        queues=tuple(sentence for row in status["queues"] if (sentence := trouble_of(row))),
    )


def listens_at(url: str) -> bool:
    """Whether something accepts connections at a URL."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S):
            return True
    except OSError:
        return False


def trouble_of(row: dict[str, Any]) -> str:
    """What is wrong with a queue that a dispatcher told of, in a sentence; "": nothing."""
    if row["heard_s_ago"] > SILENT_AFTER_S:
        silent_s = row["heard_s_ago"]
        return f"The dispatcher {row['dispatcher']} of queue {row['queue']} has told nothing for {silent_s:.0f} s."
    return f"The dispatcher of queue {row['queue']} says: {row['trouble']}" if row["trouble"] else ""


async def _workers(rows: Sequence[dict[str, Any]]) -> list[WorkerFacts]:
    errors = await asyncio.gather(*(_connect_error(row["url"]) for row in rows[:WORKERS_MAX]))
    errors += [""] * (len(rows) - len(errors))
    return [WorkerFacts(row["id"], row["url"], row["suspect"], error) for row, error in zip(rows, errors, strict=True)]


async def _connect_error(url: str) -> str:
    """Why a worker cannot be connected to; "": it can, or has not said where it is."""
    parts = urlsplit(url)
    if not parts.hostname or not parts.port:
        return ""
    try:
        _, writer = await within(asyncio.open_connection(parts.hostname, parts.port), CONNECT_S)
        writer.close()
    except asyncio.TimeoutError:
        return f"no answer within {CONNECT_S:g} s"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def queues(urls: Sequence[str]) -> tuple[QueueFacts, ...]:
    """Each queue, read once."""
    return tuple(asyncio.run(_queues(urls))) if urls else ()


async def _queues(urls: Sequence[str]) -> list[QueueFacts]:
    return list(await asyncio.gather(*map(_queue, urls)))


async def _queue(url: str) -> QueueFacts:
    from nullworker.dispatch.binding import without_password
    from nullworker.queues.base import QueueError

    shown = without_password(url)
    try:
        warnings = await within(_read(url), QUEUE_S)
    except QueueError as error:
        return QueueFacts(shown, str(error))
    except asyncio.TimeoutError:
        return QueueFacts(shown, f"it did not answer within {QUEUE_S:g} s.")
    return QueueFacts(shown, warnings=tuple(warnings))


async def _read(url: str) -> list[str]:
    from nullworker.queues.registry import open_queue

    async with await open_queue(url) as queue:
        info = await queue.info()
        await queue.depth()
    return [warning.message for warning in info.warnings]
