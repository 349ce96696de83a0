"""Which certificates are accepted: those of the usual authorities, and those that the engine's own authority signed.

Vast's workers, and those of an engine of ours, serve TLS with certificates of the engine's own authority, whose root is
to be had at a known address. It is fetched over a connection that the usual authorities vouch for. A worker's name (its
IP address, mostly) must be in its certificate, as with any other.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import aiohttp

from nullworker.client.errors import CertificateUnavailableError, EngineUnreachableError
from nullworker.client.http import NoAnswerError, connection_failure, read_body

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 15.0
_CERTIFICATES_BYTES_MAX = 1 << 20


def pinned(authority: Path | None) -> ssl.SSLContext:
    """What an engine's certificate is checked with.

    Args:
        authority: a file with the only authority that is accepted, in PEM; None: the usual ones are.

    Raises:
        CertificateUnavailableError: it is no such file.
    """
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(authority))
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise CertificateUnavailableError(str(authority), str(reason)) from error


async def load_context(url: str, engine: str, authority: Path | None = None) -> ssl.SSLContext:
    """Fetches the root certificate and makes a context that accepts what it signed.

    Args:
        url: where the root certificate is, as PEM.
        engine: how messages name the engine.
        authority: as for `pinned`; the root is fetched over a connection that it vouches for.

    Raises:
        EngineUnreachableError: nothing answers, or not now.
        CertificateUnavailableError: what answers has no certificate there.
    """
    context = pinned(authority)
    pem = await _fetch(url, engine, context)
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "not text"
        raise CertificateUnavailableError(url, f"what is there is none: {reason}") from error
    # Vast's root has a path length and no key usage that allows signing, which OpenSSL's strict mode (the default from
    # Python 3.13 on) does not accept. Chain, signatures, validity and names are checked all the same.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def _fetch(url: str, engine: str, context: ssl.SSLContext) -> bytes:
    """The body at ``url``. Redirects are followed, for nothing secret is sent."""
    connector = aiohttp.TCPConnector(ssl=context)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as http,
            http.get(url) as response,
        ):
            status, body = response.status, await read_body(response, _CERTIFICATES_BYTES_MAX)
    except aiohttp.ClientConnectorError as error:
        raise EngineUnreachableError(engine, connection_failure(error)) from error
    except (asyncio.TimeoutError, TimeoutError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise EngineUnreachableError(engine, str(error) or "time-out") from error
    except (aiohttp.ClientError, NoAnswerError) as error:
        raise CertificateUnavailableError(url, str(error)) from error
    if status >= 500:
        raise EngineUnreachableError(engine, f"HTTP {status}")
    if status != 200:
        raise CertificateUnavailableError(url, f"HTTP {status}")
    return body
