"""How commands ask a running engine: its URL, its key, one GET, and a sentence when that fails."""

from __future__ import annotations

from typing import Any

import click
import requests

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
    try:
        answer = requests.get(url + path, params=query, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_S)
    except requests.RequestException as error:
        raise UserError(
            f"The engine at {url} does not answer ({type(error).__name__}); start one with nullworker engine, "
            f"or name another with --instance."
        ) from None
    try:
        body = answer.json()
    except ValueError:
        raise UserError(f"What answers at {url} is no nullworker engine.") from None
    if not answer.ok:
        raise UserError(str(body.get("msg", f"The engine answered {answer.status_code}.")))
    return dict(body)
