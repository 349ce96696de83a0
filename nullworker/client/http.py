"""One HTTP call: an answer whose body has been read, or no answer, in words.

Redirects are not followed. A body of ours carries a key, or the proof that a session is ours, and would be sent on to
wherever the answer points.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import aiohttp

from nullworker.wire.headers import PLACE_ENDS
from nullworker.wire.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

USER_AGENT = "nullworker"
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
#: The longest is an engine's list of endpoints, some 600 bytes each. A worker's answer has some hundred bytes.
ANSWER_BYTES_MAX = 16 << 20
SENTENCE_CHARACTERS_MAX = 2_000


class NoAnswerError(Exception):
    """The call brought no answer; the message says why. ``refused``: nothing listens at the address."""

    def __init__(self, detail: str, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.refused = refused


@dataclass(frozen=True)
class Answer:
    """An answer. ``date``, ``location`` and ``place_ends`` are its headers, empty where there are none."""

    status: int
    text: str
    date: str = ""
    location: str = ""
    place_ends: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return 200 <= self.status < 300

    def parsed(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.text)

    def mapping(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is none."""
        try:
            parsed = self.parsed()
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}

    @property
    def sentence(self) -> str:
        """What an answer that is an error says: ``msg`` or ``error`` of a JSON object, else the body itself."""
        body = self.mapping()
        return printable(str(body.get("msg") or body.get("error") or self.text)[:SENTENCE_CHARACTERS_MAX])


async def call(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    timeout_s: float,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, str] | None = None,
    key: str | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Answer:
    """Makes one call and reads the whole answer.

    Args:
        http: the connections to use.
        method: GET or POST.
        url: the address, without a query.
        timeout_s: how long all of it may take.
        body: what to send, as JSON.
        query: what follows the ``?``.
        key: the API key, sent as a bearer token.
        headers: what is sent besides.

    Raises:
        NoAnswerError: there is no answer.
    """
    headers = {**headers, "User-Agent": USER_AGENT}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with http.request(
            method, url, params=query, json=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            text = await read_text(response, ANSWER_BYTES_MAX)
            found = response.headers
            place_ends = found.get(PLACE_ENDS, "")
            return Answer(response.status, text, found.get("Date", ""), found.get("Location", ""), place_ends)
    except aiohttp.ClientConnectorError as error:
        refused = isinstance(error.os_error, ConnectionRefusedError)
        raise NoAnswerError(connection_failure(error), refused=refused) from error
    except (aiohttp.ClientError, asyncio.TimeoutError, TimeoutError, OSError) as error:
        raise NoAnswerError(str(error) or "time-out") from error


async def read_text(response: aiohttp.ClientResponse, most: int) -> str:
    """As `read_body`, as text."""
    body = await read_body(response, most)
    try:
        return body.decode(response.charset or "utf-8", errors="replace")
    except LookupError:  # it names no encoding
        return body.decode(errors="replace")


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """The body of an answer, as it is after decompression, if it has ``most`` bytes at most.

    Raises:
        NoAnswerError: it has more.
    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            raise NoAnswerError(f"an answer of more than {most >> 20} MiB")
    return bytes(body)


def connection_failure(error: aiohttp.ClientConnectorError) -> str:
    """Why no connection came about, in words; for some failures, asyncio names only the address."""
    if isinstance(error.os_error, ConnectionRefusedError):
        return "connection refused"
    return error.os_error.strerror or str(error)
