"""Every call that a worker is sent: make a session, is it held, hold it longer, end it.

Every answer has a meaning here, and every call a limit. The API key is not sent: a worker knows its holder by
``auth_data``, and its machine is rented, where it is one of Vast's.
"""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from nullworker.client.http import NoAnswerError, call
from nullworker.wire import paths
from nullworker.wire.headers import read_place_ends

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from nullworker.client.http import Answer

CALL_TIMEOUT_S = 10.0  # as the vastai client's own; one that is still ending a session answers shortly before
#: Statuses by which a worker, or whatever now listens in its place, says that it knows no such session of ours.
GONE = frozenset({400, 401, 403, 404, 405, 410, 422})


class SessionGone(Exception):  # noqa: N818 - an outcome, not an error: the worker may have ended it on purpose
    """The worker does not hold this session (any more)."""


class WorkerGone(SessionGone):
    """Nothing listens where the worker was."""


class WorkerSilent(Exception):  # noqa: N818 - an outcome, which the caller handles
    """No usable answer this time."""


@dataclass(frozen=True)
class Created:
    """What a worker answered to the question for a session. ``session_id`` is None if it names none."""

    status: int
    session_id: str | None
    sentence: str

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Look:
    """What the worker says of a session: seconds until it ends by itself, and for how long a ping extends it.

    None where it cannot be told. A worker may allow a shorter lifetime than it was asked for.
    """

    remaining_s: float | None
    lifetime_s: float | None = None


async def create_session(http: aiohttp.ClientSession, auth_data: dict[str, Any], question: dict[str, Any]) -> Created:
    """Asks the worker that the engine has named to hold a session.

    Args:
        http: the connections to use.
        auth_data: the engine's answer, which has the worker's ``url`` in it.
        question: lifetime, and what is to happen at the end.

    Raises:
        WorkerGone: nothing listens there.
        WorkerSilent: there is no answer; the worker may hold the session, or will.
    """
    answer = await _post(
        http,
        auth_data["url"].rstrip("/") + paths.SESSION_CREATE,
        {"auth_data": auth_data, "session_id": None, "payload": question},
    )
    session_id = answer.mapping().get("session_id")
    return Created(answer.status, session_id if isinstance(session_id, str) and session_id else None, answer.sentence)


class WorkerClient:
    """Calls about one session to the worker that holds it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, session_id: str, auth_data: dict[str, Any]) -> None:
        """Nothing is asked yet.

        Args:
            http: the connections to use.
            url: the worker's URL.
            session_id: the session that the calls are about.
            auth_data: what it was made with.
        """
        self._http = http
        self._url = url.rstrip("/")
        self._session_id = session_id
        self._auth_data = auth_data
        #: Called when the worker says that its place will end it, with the seconds until then and the reason.
        self.on_place_ends: Callable[[float, str], object] = lambda _in_s, _reason: None

    async def look(self) -> Look:
        """Asks the worker about the session.

        Raises:
            SessionGone: it holds none such (`WorkerGone`: nothing listens there).
            WorkerSilent: no usable answer.
        """
        body = {"session_id": self._session_id, "session_auth": self._auth_data}
        answer = await self._ask(paths.SESSION_GET, body)
        told = answer.mapping()
        lifetime_s = told.get("lifetime")
        return Look(remaining_s(told.get("expiration"), answer.date), lifetime_s if _is_positive(lifetime_s) else None)

    async def ping(self) -> None:
        """Makes the session last one lifetime longer. Raises as `look`."""
        body = {"auth_data": self._auth_data, "session_id": self._session_id, "payload": {}}
        await self._ask(paths.PING, body, gone=frozenset({410}))

    async def end(self) -> None:
        """Ends the session. Raises as `look`; `SessionGone` here means that it had ended before."""
        await self._ask(paths.SESSION_END, {"session_id": self._session_id, "session_auth": self._auth_data})

    async def _ask(self, path: str, body: dict[str, Any], gone: frozenset[int] = GONE) -> Answer:
        answer = await _post(self._http, self._url + path, body)
        if answer.status in gone:
            raise SessionGone(_why_gone(answer.status))
        if not answer.ok:
            raise WorkerSilent(f"HTTP {answer.status}")
        ends = read_place_ends(answer.place_ends) if answer.place_ends else None
        if ends is not None:
            self.on_place_ends(*ends)
        return answer


async def _post(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Answer:
    try:
        return await call(http, "POST", url, timeout_s=CALL_TIMEOUT_S, body=body)
    except NoAnswerError as error:
        if error.refused:
            raise WorkerGone("its worker is gone") from error
        raise WorkerSilent(str(error)) from error


def remaining_s(expiration: object, date: str) -> float | None:
    """Seconds until ``expiration`` (Unix time by the worker's clock) from the ``Date`` of the same answer.

    Both are the worker's, so neither our clock nor a jump of its own matters. Good to a second.
    """
    if isinstance(expiration, bool) or not isinstance(expiration, (int, float)):
        return None
    try:
        return float(expiration) - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _why_gone(status: int) -> str:
    if status in {400, 404, 410}:  # the framework's 400 means that it knows no such session
        return "its worker has ended it: its consumer gave it back, or its lifetime ran out"
    return f"its worker answers HTTP {status}"


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
