"""Writes the acts of operators into the audit log, as the requests tell of them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from nullworker.engine.api.http import BODY
from nullworker.engine.audit import AuditEntry, AuditLog, detail_of
from nullworker.engine.auth.account import BY_COOKIE, HOLDER
from nullworker.wire.headers import REASON
from nullworker.wire.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from nullworker.engine.api.app import Auditor
    from nullworker.wire.errors import WireError

CHARACTERS_MAX = 500


def auditor(log: AuditLog, wall_s: Callable[[], float]) -> Auditor:
    """What `nullworker.engine.api.app.App` calls with each act.

    An act of a caller that gave no valid key is none: anybody could fill the log with such.

    Args:
        log: where they are written.
        wall_s: Unix time.
    """

    def audit(request: web.BaseRequest, act: str, refusal: WireError | None) -> None:
        holder = request.get(HOLDER)
        if holder is None:
            return
        log.add(
            AuditEntry(
                at_s=wall_s(),
                who=holder.name,
                via="page" if request.get(BY_COOKIE) else request.headers.get("User-Agent", "API")[:80],
                remote=request.remote or "",
                what=act,
                subject=request.path[:200],
                detail=detail_of(request.get(BODY, b"")),
                why=redact(unquote(request.headers.get(REASON, "")))[:CHARACTERS_MAX],
                outcome="done" if refusal is None else f"refused: {refusal.message}"[:CHARACTERS_MAX],
            )
        )

    return audit
