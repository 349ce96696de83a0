"""How commands ask a running engine: its URL, its key, one call, and a sentence when that fails."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from nullworker.cli.errors import UserError
from nullworker.client.http import NoAnswerError, connection_failure, read_text
from nullworker.client.instances import API_KEY_VARIABLE, find_authority, find_instance, find_key
from nullworker.wire.headers import REASON
from nullworker.wire.printable import printable_values

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

V = TypeVar("V")

#: A worker may take until its next report, some ten seconds, to do what it is told.
TIMEOUT_S = 20.0
ANSWER_BYTES_MAX = 256 << 20  # all workers, waiters and decisions of a large engine
_KEY_REFUSED = (401, 403)


def engine_options(function: Any) -> Any:
    """The options by which a command finds its engine."""
    function = click.option("--api-key", help="The account key; else VAST_API_KEY, else the local engine's own.")(
        function
    )
    return click.option(
        "--instance", default="local", show_default=True, metavar="local|URL", help="The engine: local, or its URL."
    )(function)


def ask(instance: str, api_key: str | None, path: str, **query: str) -> dict[str, Any]:
    """What the engine answers to GET ``path``.

    Args:
        instance: as `nullworker.client.instances.find_instance` takes it; one of Vast's engines does not answer this.
        api_key: the account key; None: the one that `nullworker.client.instances.find_key` finds.
        path: the path on the engine.
        query: what follows the ``?``.

    Raises:
        UserError: it is not there, or refuses.
        ClientError: the instance or key makes no sense.
    """
    return _called("GET", instance, api_key, path, query, None, "")


def tell(
    instance: str,
    api_key: str | None,
    path: str,
    body: Mapping[str, object],
    reason: str = "",
    *,
    method: str = "POST",
) -> dict[str, Any]:
    """What the engine answers to POST ``path``.

    Args:
        instance: as for `ask`.
        api_key: as for `ask`.
        path: the path on the engine.
        body: what is sent.
        reason: why, for the engine's audit log.
        method: in place of POST.

    Raises:
        UserError: it is not there, or refuses.
        ClientError: the instance or key makes no sense.
    """
    return _called(method, instance, api_key, path, {}, body, reason)


def ask_view(instance: str, api_key: str | None, kind: type[V], view: str, **query: str) -> V:
    """A view of the engine's, as its page shows it.

    Args:
        instance: as for `ask`.
        api_key: as for `ask`.
        kind: its type in `nullworker.views.types`.
        view: its name.
        query: which part of it.

    Raises:
        UserError: the engine is not there, refuses, or is of another version.
        ClientError: the instance or key makes no sense.
    """
    import msgspec

    from nullworker.wire.paths import VIEW

    answer = ask(instance, api_key, VIEW, view=view, **query)
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise UserError(
            f"The engine is of another version than this command ({error}); use the command that came with it."
        ) from None


def _called(
    method: str,
    instance: str,
    api_key: str | None,
    path: str,
    query: Mapping[str, str],
    body: Mapping[str, object] | None,
    reason: str,
) -> dict[str, Any]:
    found = find_instance(instance)
    key = find_key(found, api_key)
    if found.url is None:
        raise UserError(
            f"{found.label} does not answer this; it is for engines of nullworker (--instance local or a URL)."
        )
    url = found.url.rstrip("/")
    headers = {"Authorization": f"Bearer {key}", "User-Agent": "nullworker command line"}
    if reason:
        headers[REASON] = quote(reason)
    status, text = asyncio.run(_answer(method, url, path, query, body, headers, find_authority(found)))
    try:
        answer = printable_values(json.loads(text))  # before any of it is on a terminal
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UserError(f"What answers at {url} is no nullworker engine.")
    if not 200 <= status < 300:
        said = str(answer.get("msg", f"The engine answered {status}."))
        if status in _KEY_REFUSED and api_key is None and os.environ.get(API_KEY_VARIABLE):
            said += f" It is the one in {API_KEY_VARIABLE}: unset that, and the key that a local engine keeps is used."
        raise UserError(said)
    return answer


async def _answer(
    method: str,
    url: str,
    path: str,
    query: Mapping[str, str],
    body: Mapping[str, object] | None,
    headers: Mapping[str, str],
    authority: Path | None,
) -> tuple[int, str]:
    """Status and body."""
    import aiohttp

    from nullworker.client.trust import pinned

    connector = aiohttp.TCPConnector(ssl=pinned(authority)) if authority is not None else None
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout, trust_env=True) as http,
            http.request(method, url + path, params=query, json=body, allow_redirects=False) as answer,
        ):
            return answer.status, await read_text(answer, ANSWER_BYTES_MAX)
    except aiohttp.ClientConnectorError as error:
        why = connection_failure(error)
    except (aiohttp.ClientError, asyncio.TimeoutError, TimeoutError, OSError, NoAnswerError) as error:
        why = str(error) or f"nothing within {TIMEOUT_S:g} s"
    raise UserError(
        f"The engine at {url} does not answer ({why}); start one with nullworker engine, "
        f"or name another with --instance."
    )
