"""The one report of a worker that cannot start: a short message to the engine, if there is one.

The standard library alone: it must work when nothing else does (settings that are wrong, packages that are missing).
`start_server.sh` runs it as a program: ``python -m nullworker.wire.worker_side.failure_report SENTENCE``.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING

from nullworker.wire.paths import WORKER_STATUS
from nullworker.wire.worker_side import messages
from nullworker.wire.worker_side.environment import http_url

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S = 3.0


def report(env: Mapping[str, str], message: str) -> bool:
    """Sends the report to the first address of REPORT_ADDR that accepts it.

    Args:
        env: the worker's environment.
        message: what is wrong, in one sentence.

    Returns:
        Whether an engine accepted it. An environment that names no engine or no worker is no error.
    """
    worker_id = env.get("CONTAINER_ID", "").strip()
    if not (worker_id.isascii() and worker_id.isdigit()):
        return False
    identity = messages.Identity(int(worker_id), env.get("MASTER_TOKEN", ""), _own_url(env))
    data = json.dumps(messages.failure(identity, message)).encode()
    return any(_post(addr.strip().rstrip("/"), data) for addr in env.get("REPORT_ADDR", "").split(","))


def _own_url(env: Mapping[str, str]) -> str:
    host, port = env.get("PUBLIC_IPADDR", ""), env.get(f"VAST_TCP_PORT_{env.get('WORKER_PORT', '')}", "")
    return http_url(host, port, use_ssl=env.get("USE_SSL") == "true") if host and port else ""


def _post(addr: str, data: bytes) -> bool:
    if not addr.startswith(("http://", "https://")):
        return False
    try:
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked above
            addr + WORKER_STATUS, data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - as above
            return True
    except (OSError, HTTPException, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(0 if report(os.environ, " ".join(sys.argv[1:])) else 1)
