"""The last word of a worker that cannot start: one short report to the engine, where there is one.

The standard library alone: it must work when nothing else does (settings that are wrong, packages that are missing).
`start_server.sh` runs it as a program: ``python -m nullworker.wire.failure_report SENTENCE``.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING

from nullworker.wire.paths import WORKER_STATUS

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERSION = "1.1.0"  # of Vast's worker protocol, as its framework says it
_MESSAGE_CHARS_MAX = 2_000  # a sentence for the engine's records, not a log
_TIMEOUT_S = 3.0


def report(env: Mapping[str, str], message: str) -> bool:
    """Tells the first address of REPORT_ADDR that takes it.

    Args:
        env: the worker's environment.
        message: what is wrong, in one sentence.

    Returns:
        Whether one took it. An environment that does not say where, or as whom, is no error: there is nobody to tell.
    """
    worker_id = env.get("CONTAINER_ID", "").strip()
    if not (worker_id.isascii() and worker_id.isdigit()):
        return False
    body = {
        "id": int(worker_id),
        "mtoken": env.get("MASTER_TOKEN", ""),
        "version": _VERSION,
        "error_msg": message[:_MESSAGE_CHARS_MAX],
        "url": _own_url(env),
    }
    data = json.dumps(body).encode()
    return any(_post(addr.strip().rstrip("/"), data) for addr in env.get("REPORT_ADDR", "").split(","))


def _own_url(env: Mapping[str, str]) -> str:
    host, port = env.get("PUBLIC_IPADDR", ""), env.get(f"VAST_TCP_PORT_{env.get('WORKER_PORT', '')}", "")
    scheme = "https" if env.get("USE_SSL") == "true" else "http"
    return f"{scheme}://{host}:{port}" if host and port else ""


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
