"""Vast's REST interface as far as the fleet uses it, by the ``vastai`` package, whose blocking calls run in threads.

The package sends a call again when it was not answered, the creating one as well, which would rent two machines: here
it makes one try of each, and calls that may be repeated are repeated by this module. An answer that is not as
documented is a `FleetError`: what Vast says is read, and not believed to be well-formed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import FleetError
from nullworker.fleets.vast import wording
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: How far apart calls of one kind are, in seconds, by the limits that Vast documents for each.
SPACING_S: dict[str, float] = {
    "search": 2.0,
    "rent": 4.5,
    "destroy": 3.0,
    "state": 1.0,
    "list": 1.0,
    "show": 2.0,
    "log": 1.0,
}
#: A call whose turn would come later than this is refused.
TURN_MAX_S = 300.0
#: A call that has not been answered for so long has failed; a creating one takes longer.
CALL_S, RENT_S = 20.0, 60.0
#: How often a call is made that may be repeated, or that certainly was not carried out; and seconds in between.
TRIES, PAUSE_S = 3, 0.5
#: A longer wait than this, which Vast asks for with a 429, is not waited for.
RETRY_AFTER_MAX_S = 20.0
_THREADS = 8
_PAGE = 25
_PAGES_MAX = 400
_BUSY = frozenset({502, 503, 504})


class VastError(FleetError):
    """Vast answered, and said no; certainly nothing was done."""

    def __init__(self, message: str, status: int, code: str = "") -> None:
        """Takes the sentence, the status of HTTP, and Vast's own code ("": it gave none)."""
        super().__init__(message)
        self.status = status
        self.code = code


class VastApi:
    """Calls Vast with one account's key."""

    def __init__(self, url: str, key: str) -> None:
        """Takes the address of the interface and the account's key."""
        self.url = url
        self._key = key
        self._client: Any = None
        self._threads = ThreadPoolExecutor(_THREADS, "vast")
        self._next: dict[str, float] = {}

    async def open(self) -> None:
        """Loads the package, which takes more than a second. Raises FleetError."""
        try:
            self._client = await asyncio.get_running_loop().run_in_executor(self._threads, self._load)
        except ImportError as error:
            raise FleetError(
                f"The Vast fleet needs the package vastai ({error}): pip install 'nullworker[vast]'."
            ) from error

    def _load(self) -> Any:
        from vastai.api.client import VastClient  # noqa: PLC0415 - slow, and of an extra

        return VastClient(api_key=self._key, server_url=self.url, retry=1, timeout=CALL_S)

    def close(self) -> None:
        """Makes no call any more; the threads end once their calls have ended."""
        self._client = None
        self._threads.shutdown(wait=False)

    async def search(self, query: Mapping[str, Any]) -> list[Any]:
        """The offers that fit a query.

        Raises:
            VastError: it was refused; its code is ``search_quota_exceeded`` when the day's searches are used up.
            FleetError: Vast does not answer.
        """
        answer = await self._ask("search", "search for offers", "POST", "/bundles/", json=dict(query))
        offers = answer.get("offers")
        if not isinstance(offers, list):
            raise FleetError(wording.not_as_documented("a search"))
        return offers

    async def rent(self, offer_id: int, terms: Mapping[str, Any]) -> int:
        """Rents a machine, in one try.

        Args:
            offer_id: the offer that is taken.
            terms: image, label and all else, as the package's function takes them.

        Returns:
            The number of the new instance.

        Raises:
            VastError: it was refused.
            FleetError: Vast did not answer, and may have done it.
        """
        from vastai.api.instances import build_create_instance_payload  # noqa: PLC0415 - slow, and of an extra

        body = build_create_instance_payload(**terms)
        answer = await self._ask("rent", "rent a machine", "PUT", f"/asks/{offer_id}/", json=body, timeout_s=RENT_S)
        contract_id = answer.get("new_contract")
        if not isinstance(contract_id, int) or isinstance(contract_id, bool):
            raise FleetError(wording.not_as_documented("an order"), definite=False)
        return contract_id

    async def instances(self) -> list[Any]:
        """All instances of the account, page after page. Raises FleetError."""
        found: list[Any] = []
        seen: set[str] = set()
        query: dict[str, Any] = {"select_filters": {}, "order_by": [{"col": "id", "dir": "asc"}], "limit": _PAGE}
        for _ in range(_PAGES_MAX):
            answer = await self._ask("list", "list the instances", "GET", "/api/v1/instances/", query=query)
            page, token = answer.get("instances"), answer.get("next_token")
            if not isinstance(page, list) or not isinstance(token, (str, type(None))) or token in seen:
                raise FleetError(wording.not_as_documented("a list of instances"), definite=False)
            found += page
            if not token:
                return found
            seen.add(token)
            query = {**query, "after_token": token}
        raise FleetError(wording.not_as_documented("a list of instances"), definite=False)

    async def instance(self, contract_id: int) -> dict[str, Any] | None:
        """One instance; None: there is no such. Raises FleetError."""
        try:
            answer = await self._ask(
                "show", "show an instance", "GET", f"/instances/{contract_id}/", query={"owner": "me"}
            )
        except VastError as error:
            if error.status == 404:
                return None
            raise
        row = answer.get("instances", answer)
        if row is not None and not isinstance(row, dict):
            raise FleetError(wording.not_as_documented("a question for an instance"), definite=False)
        return row

    async def set_state(self, contract_id: int, state: str) -> bool:
        """Starts or stops an instance.

        Args:
            contract_id: the instance.
            state: ``running`` or ``stopped``.

        Returns:
            False: the machine has no room for it now, and Vast keeps the order until it has.

        Raises:
            VastError: it was refused, or there is no such instance (404).
            FleetError: Vast does not answer.
        """
        verb = "start an instance" if state == "running" else "stop an instance"
        answer = await self._ask("state", verb, "PUT", f"/instances/{contract_id}/", json={"state": state})
        if answer.get("success") is False:
            if answer.get("error") == "resources_unavailable":
                return False
            raise VastError(wording.refused(verb, wording.reason_in(answer, 200)), 200, str(answer.get("error") or ""))
        return True

    async def destroy(self, contract_id: int) -> None:
        """Destroys an instance. One that is not there is no error. Raises FleetError."""
        try:
            await self._ask("destroy", "destroy an instance", "DELETE", f"/instances/{contract_id}/", json={})
        except VastError as error:
            if error.status != 404:
                raise

    async def log_end(self, contract_id: int, lines: int) -> bytes:
        """The last lines of what an instance has printed; empty where there is nothing.

        Args:
            contract_id: the instance.
            lines: how many.

        Raises:
            FleetError: Vast does not answer.
        """
        from vastai.api import instances  # noqa: PLC0415 - slow, and of an extra

        try:
            said = await self._in_thread(
                "log", "fetch a log", lambda client: instances.logs(client, contract_id, tail=str(lines)), CALL_S
            )
        except VastError as error:
            if error.status == 404:
                return b""
            raise
        return said.encode(errors="replace") if isinstance(said, str) else b""

    # ------------------------------------------------------------------------------------------------------- each call

    async def _ask(
        self,
        kind: str,
        what: str,
        method: str,
        path: str,
        *,
        json: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        timeout_s: float = CALL_S,
    ) -> dict[str, Any]:
        """Makes a call, again where it may be; returns the answer. Raises FleetError."""

        def call(client: Any) -> Any:
            function = getattr(client, method.lower())
            return function(path, query_args=query, json_data=json, timeout=timeout_s)

        tries_left = TRIES
        while True:
            tries_left -= 1
            try:
                response = await self._in_thread(kind, what, call, timeout_s)
            except FleetError as error:
                if isinstance(error, VastError) or not tries_left or (kind == "rent" and not error.definite):
                    raise
                await asyncio.sleep(PAUSE_S)
                continue
            pause_s = _pause_s(response, kind) if tries_left else None
            if pause_s is None:
                return self._answer(response, what)
            await asyncio.sleep(pause_s)

    async def _in_thread(self, kind: str, what: str, call: Callable[[Any], Any], timeout_s: float) -> Any:
        """Runs a call of the package when its turn has come. Raises FleetError."""
        import requests  # noqa: PLC0415 - of an extra

        await self._turn(kind, what)
        if self._client is None:
            raise FleetError("The Vast fleet is closed.")
        running = asyncio.get_running_loop().run_in_executor(self._threads, call, self._client)
        try:
            # requests counts each silence, and not the whole: a server that sends byte after byte would hold it.
            return await within(running, timeout_s + CALL_S)
        except requests.exceptions.HTTPError as error:
            response = error.response
            raise self._error(response, what) from error
        except requests.exceptions.ConnectTimeout as error:
            raise FleetError(wording.unreachable(self.url, "no connection in time")) from error
        except requests.exceptions.ConnectionError as error:
            if _never_connected(error):
                raise FleetError(wording.unreachable(self.url, _innermost(error))) from error
            raise FleetError(wording.unanswered(self.url, what, _innermost(error)), definite=False) from error
        except (requests.exceptions.RequestException, asyncio.TimeoutError, TimeoutError) as error:
            why = f"nothing came for {timeout_s:g} s" if not str(error) or "timed out" in str(error) else str(error)
            raise FleetError(wording.unanswered(self.url, what, why), definite=False) from error

    async def _turn(self, kind: str, what: str) -> None:
        """Waits until a call of a kind may be made. Raises FleetError where that would take too long."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._next.get(kind, 0.0))
        if at - now > TURN_MAX_S:
            raise FleetError(f"Too many calls wait to {what}: Vast takes one every {SPACING_S[kind]:g} s.")
        self._next[kind] = at + SPACING_S[kind]
        if at > now:
            await asyncio.sleep(at - now)

    def _answer(self, response: Any, what: str) -> dict[str, Any]:
        if response.status_code != 200:
            raise self._error(response, what)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise FleetError(wording.not_as_documented(f"the request to {what}"), definite=False)
        return answer

    def _error(self, response: Any, what: str) -> FleetError:
        """What an answer that is not 200 means."""
        status = int(response.status_code)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        reason = wording.reason_in(answer, status)
        code = str(answer.get("error") or "") if isinstance(answer, dict) else ""
        if status in (401, 403):
            return VastError(wording.refused_key(reason), status, code)
        if status >= 500:
            return FleetError(wording.unanswered(self.url, what, reason), definite=False)
        return VastError(wording.refused(what, reason), status, code)


def _pause_s(response: Any, kind: str) -> float | None:
    """How long to wait before a call is made again, in seconds; None: it is not.

    A call that is refused with 429 certainly was not carried out. One that a gateway gave up on may have been.
    """
    if response.status_code in _BUSY and kind != "rent":
        return PAUSE_S
    if response.status_code != 429 or b"search_quota_exceeded" in response.content:
        return None
    try:
        wait_s = float(response.headers.get("Retry-After", PAUSE_S))
    except ValueError:
        wait_s = PAUSE_S
    return wait_s if 0 <= wait_s <= RETRY_AFTER_MAX_S else None


def _never_connected(error: BaseException) -> bool:
    """Whether an error of requests says that nothing was sent."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return type(reason).__name__ in ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")


def _innermost(error: BaseException) -> str:
    """What went wrong, without the layers around it."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    text = str(reason or error)
    return text.rpartition(": ")[2].strip(" )'\"") or type(error).__name__
