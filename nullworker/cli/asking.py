"""How commands ask a running engine: its URL, its key, one GET, and a sentence when that fails."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from nullworker.cli.errors import UserError
from nullworker.client.instances import find_instance, find_key

TIMEOUT_S = 10.0


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
    found = find_instance(instance)
    key = find_key(found, api_key)
    if found.url is None:
        raise UserError(
            f"{found.label} does not answer this; it is for engines of nullworker (--instance local or a URL)."
        )
    url = found.url.rstrip("/")
    status, text = asyncio.run(_get(url, path, query, key))
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise UserError(f"What answers at {url} is no nullworker engine.")
    if not 200 <= status < 300:
        raise UserError(str(body.get("msg", f"The engine answered {status}.")))
    return body


async def _get(url: str, path: str, query: dict[str, str], key: str) -> tuple[int, str]:
    """Status and body."""
    import aiohttp

    headers = {"Authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout, trust_env=True) as http,
            http.get(url + path, params=query) as answer,
        ):
            return answer.status, await answer.text(errors="replace")
    except (aiohttp.ClientError, asyncio.TimeoutError, TimeoutError, OSError) as error:
        raise UserError(
            f"The engine at {url} does not answer ({type(error).__name__}); start one with nullworker engine, "
            f"or name another with --instance."
        ) from None
