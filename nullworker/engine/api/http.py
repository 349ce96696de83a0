"""Reading requests and writing answers: the same few lines for every handler."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import msgspec
from aiohttp import HttpVersion11, web

from nullworker.wire.errors import TooLargeError, TooManyError, WireError
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable

#: A client that has begun a body and does not go on is given so long.
BODY_TIMEOUT_S = 10.0
BODY_BYTES_MAX = 64 << 10
#: What describes a workergroup, or a dispatcher's queues, may be longer.
LONG_BODY_BYTES_MAX = 1 << 20
#: A worker's may be so long, if its beginning shows that it is authentic: 400,000 requests in progress, or 40,000 that
#: are finished.
WORKER_BODY_BYTES_MAX = 8 << 20

_NOT_AS_ITS_HEADERS_SAY = "The body is not what its Content-Encoding or Transfer-Encoding says."

Reply = web.Response

#: Under these a request says that its body is to be kept, and has it.
KEEPS_BODY = web.RequestKey("keeps_body", bool)
BODY = web.RequestKey("body", bytes)

_encode = msgspec.json.Encoder().encode


async def read(request: web.BaseRequest, most: int = BODY_BYTES_MAX) -> bytes:
    """The body of a request; kept with it, where that is wanted.

    Raises:
        TooLargeError: it has more than ``most`` bytes.
        WireError: it did not arrive in time, or not as its headers say.
    """
    body = await _read(request, most)
    if KEEPS_BODY in request:
        request[BODY] = body
    return body


async def _read(request: web.BaseRequest, most: int) -> bytes:
    length = request.content_length
    if length is not None and length > most:
        raise TooLargeError(f"The body has {length} bytes, and {most} is the most.")
    content = request.content
    try:
        if content.is_eof() and content.total_bytes <= most:  # it is all here
            return content.read_nowait()
        await _say_go_on(request)
        return await within(_read_at_most(request, most), BODY_TIMEOUT_S)
    except web.RequestPayloadError:
        raise WireError("", _NOT_AS_ITS_HEADERS_SAY) from None
    except ConnectionError:
        raise WireError("", "The connection ended before its body did.") from None  # no client is left to read this
    except asyncio.TimeoutError:
        raise WireError("", f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None


async def _read_at_most(request: web.BaseRequest, most: int) -> bytes:
    body = bytearray()
    while piece := await request.content.readany():
        body += piece
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> TooLargeError:
    return TooLargeError(f"The body has more than {most} bytes.")


async def read_from_worker(request: web.BaseRequest, is_worker: Callable[[bytes], bool]) -> bytes | None:
    """As `read`, and a worker's message may be longer: it lists all that the worker works on, or is done with.

    Args:
        request: the request.
        is_worker: given the beginning of a body that is too long for others; whether it is an authentic worker's.

    Returns:
        The body; None: it is a worker's, and has more than `WORKER_BODY_BYTES_MAX`, so it was read and dropped.
    """
    content = request.content
    try:
        if content.is_eof() and content.total_bytes <= BODY_BYTES_MAX:  # it is all here
            return content.read_nowait()
        await _say_go_on(request)
        return await within(_read_pieces(request, is_worker), BODY_TIMEOUT_S)
    except web.RequestPayloadError:
        raise WireError("", _NOT_AS_ITS_HEADERS_SAY) from None
    except ConnectionError:
        raise WireError("", "The connection ended before its body did.") from None
    except asyncio.TimeoutError:
        raise WireError("", f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None


async def _read_pieces(request: web.BaseRequest, is_worker: Callable[[bytes], bool]) -> bytes | None:
    body = bytearray()
    is_long = is_dropped = False
    while piece := await request.content.readany():
        if not is_dropped:
            body += piece
        if not is_long and len(body) > BODY_BYTES_MAX:
            if not is_worker(bytes(body[:BODY_BYTES_MAX])):
                raise _too_large(BODY_BYTES_MAX)
            is_long = True
        if len(body) > WORKER_BODY_BYTES_MAX:
            is_dropped = True
            body.clear()
    return None if is_dropped else bytes(body)


async def _say_go_on(request: web.BaseRequest) -> None:
    """Asks for the body, where the client wants to be asked first (curl does, for a long one)."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # of the answer, which begins now


def reply(body: object, status: int = 200) -> web.Response:
    """An answer in JSON; ``body`` is a Struct, or anything that msgspec encodes."""
    return web.Response(body=_encode(body), status=status, content_type="application/json")


def refusal(error: WireError) -> web.Response:
    """The answer to a request that is refused."""
    answer = web.Response(body=_encode(error.body()), status=error.status, content_type="application/json")
    if isinstance(error, TooManyError):
        answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return answer
