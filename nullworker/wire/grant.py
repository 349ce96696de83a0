"""A grant: the engine's signed and short-lived permission for one request to open a session on one worker.

A JSON Web Token, HS256, keyed with the worker's token (its MASTER_TOKEN), which only engine and worker know. It travels
as ``grant`` in the answer to ``/route/``, which clients pass on to the worker as it is.

A grant is good for a time by the clock of its worker, where the worker has told the engine what that clock shows; no
wall clock matters then. It states the Unix time of its end as well, which counts for other workers.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jwt import PyJWS

    from nullworker.wire.worker_clock import WorkerClock, WorkerTime

ALGORITHM = "HS256"
AUDIENCE = "nullworker"
LEEWAY_S = 30.0  # by how much the wall clocks of engine and worker may differ
#: The engine learns a worker's clock from its reports, which take a moment. A grant is void for the engine 5 s after
#: its end (`nullworker.core.limits.GRANT_REPORT_S`): so long, a session that it opened may be reported late.
CLOCK_LEEWAY_S = 3.0
_CLAIMS = ("sub", "url", "request_idx", "exp", "jti", "aud")


class GrantError(Exception):
    """A grant that is not valid for its use; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The contents of a valid grant."""

    worker_id: int
    url: str
    request_idx: int
    good_for_s: float  # after so many seconds it is refused
    jti: str  # this very grant's own name


def issue(
    token: str,
    worker_id: int,
    url: str,
    request_idx: int,
    expires_in_s: float,
    now_s: float,
    worker_now: WorkerTime | None = None,
) -> str:
    """Makes a grant.

    Args:
        token: the worker's MASTER_TOKEN.
        worker_id: its CONTAINER_ID.
        url: the URL under which it reported itself.
        request_idx: the request that it is promised to.
        expires_in_s: seconds for which the grant is good; keep it well under two minutes.
        now_s: Unix time.
        worker_now: what the worker's own clock shows now, None if that is not known.

    Raises:
        ValueError: ``token`` is empty, which would let anyone make grants.
    """
    if not token:
        raise ValueError("A grant needs a worker's token, and this one is empty.")
    claims = {
        "sub": str(worker_id),
        "url": url,
        "request_idx": request_idx,
        "exp": now_s + expires_in_s,
        "jti": secrets.token_urlsafe(16),
        "aud": AUDIENCE,
    }
    if worker_now is not None:
        claims |= {"clock": worker_now.clock, "clock_exp": worker_now.at_s + expires_in_s}
    return _signer().encode(json.dumps(claims, separators=(",", ":")).encode(), token, algorithm=ALGORITHM)


@cache
def _signer() -> PyJWS:
    """Signs with a token as it is. PyJWT looks each time whether a key is a certificate: half of what signing takes."""
    from jwt import PyJWS  # noqa: PLC0415 - 30 ms at a worker's start, which makes no grants
    from jwt.algorithms import HMACAlgorithm  # noqa: PLC0415

    class Hs256(HMACAlgorithm):
        def prepare_key(self, key: str | bytes) -> bytes:
            return key.encode() if isinstance(key, str) else key

    signer = PyJWS(algorithms=[])
    signer.register_algorithm(ALGORITHM, Hs256(HMACAlgorithm.SHA256))
    return signer


def verify(grant: str, token: str, *, worker_id: int, url: str, request_idx: int, clock: WorkerClock) -> Grant:
    """Reads a grant that was shown to the worker ``worker_id`` for the request ``request_idx``.

    Args:
        grant: the token as received.
        token: the worker's own MASTER_TOKEN.
        worker_id: the worker's own CONTAINER_ID.
        url: the worker's own URL.
        request_idx: what the request says of itself.
        clock: the worker's own.

    Raises:
        GrantError: forged, expired, or made for something else.
    """
    import jwt  # noqa: PLC0415 - 30 ms at a worker's start, for those workers alone whose engine gives grants

    if not token:
        raise GrantError("This worker has no MASTER_TOKEN, so no grant can be checked.")
    try:
        claims: Mapping[str, Any] = jwt.decode(
            grant,
            token,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            # The time is compared below, with the worker's clock.
            options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.PyJWTError:
        raise GrantError("The grant is not one that this worker's engine made.") from None
    jti = claims["jti"]
    if not isinstance(jti, str):
        raise GrantError("The grant is not one that this worker's engine made.")
    if claims["sub"] != str(worker_id):
        raise GrantError("The grant is for another worker.")
    if claims["url"] != url:
        raise GrantError("The grant is for another URL than this worker's.")
    if claims["request_idx"] != request_idx:
        raise GrantError("The grant is for another request_idx.")
    good_for_s = _good_for_s(claims, clock)
    if not good_for_s >= 0:
        raise GrantError("The grant has expired; ask the engine again.")
    return Grant(worker_id, url, request_idx, good_for_s, jti)


def _good_for_s(claims: Mapping[str, Any], clock: WorkerClock) -> float:
    expires_at_s, named, clock_s = claims["exp"], claims.get("clock"), claims.get("clock_exp")
    if not isinstance(expires_at_s, (int, float)):
        raise GrantError("The grant is not one that this worker's engine made.")
    if named is None:
        return expires_at_s + LEEWAY_S - clock.unix_s()
    if not isinstance(named, str) or not isinstance(clock_s, (int, float)):
        raise GrantError("The grant is not one that this worker's engine made.")
    now = clock.now()
    if named != now.clock:
        raise GrantError("The grant is for an earlier process of this worker; ask the engine again.")
    return clock_s + CLOCK_LEEWAY_S - now.at_s
