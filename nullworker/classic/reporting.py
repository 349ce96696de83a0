"""Reports to the engine, in a thread of its own: first fetches its key, then sends the status and finished requests.

A status is sent when it differs from the last one, checked each second, and every ten seconds anyway; finished requests
each second while there are any. An engine that accepts prompt reports gets them at once. A message goes to the first
address that accepts it; one that none accepts is sent again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import requests

from nullworker.wire import headers, paths
from nullworker.wire.backoff import backoff_s
from nullworker.wire.worker_side import engine_tls

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.classic.settings import EngineLink
    from nullworker.classic.status import Status
    from nullworker.wire.worker_side.engine_trust import EngineTrust

log = logging.getLogger(__name__)

TICK_S = 1.0  # the framework's own
HEARTBEAT_S = 10.0  # as the framework's: an engine calls a worker lost after three of them
PROMPT_GAP_S = 0.02  # so that a flood of ends becomes a few messages
ANSWER_TIMEOUT_S = 10.0
KEY_RETRY_FIRST_S = 0.5
KEY_RETRY_MAX_S = 10.0
#: This address of Vast's takes reports, and no finished requests.
_NO_DELETES_SUFFIX = "/api/v0"


class Reporter:
    """Reports until it is closed.

    Args:
        link: where the engine is.
        status: makes the messages.
        trust: is given the engine's key.
        on_key: called once, when the key is there.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        link: EngineLink,
        status: Status,
        trust: EngineTrust,
        on_key: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self._link = link
        self._status = status
        self._trust = trust
        self._on_key = on_key
        self._now = now
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._http = requests.Session()
        self._http.trust_env = False  # a proxy for the rest of the world is none for the engine
        authority, own = engine_tls.files(os.environ)
        self._http.verify, self._http.cert = authority or True, own
        self._next_key_at = 0.0
        self._key_failures = 0
        self._refusals: dict[str, str] = {}

    def start(self) -> None:
        """Starts to report."""
        self._thread.start()

    def nudge(self) -> None:
        """A request has ended; an engine that accepts prompt reports gets it at once."""
        if self._trust.takes_prompt_reports:
            self._wake.set()

    def close(self, timeout_s: float) -> None:
        """Sends what is left to send, waiting ``timeout_s`` at most, and ends."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._tick()
            if self._wake.wait(TICK_S):
                self._wake.clear()
                self._stop.wait(PROMPT_GAP_S)
        self._send_ended()
        self._send_status(is_last=True)

    def _tick(self) -> None:
        try:
            if not self._trust.has_key and self._now() >= self._next_key_at:
                self._fetch_key()
            # What is done first: a status that no longer lists it then says nothing new.
            self._send_ended()
            self._send_status()
        except Exception:
            log.exception("a report could not be made; the next one is tried in a second")

    def _fetch_key(self) -> None:
        for address in self._link.report_addrs:
            try:
                answer = self._http.get(address + paths.PUBKEY, timeout=ANSWER_TIMEOUT_S)
                answer.raise_for_status()
                self._trust.learn(answer.content, answer.headers.get(headers.FEATURES))
            except (requests.RequestException, ValueError) as error:
                self._complain(address + paths.PUBKEY, f"the engine's key could not be fetched: {error}")
                continue
            self._refusals.pop(address + paths.PUBKEY, None)
            self._on_key()
            return
        self._key_failures += 1
        pause_s = backoff_s(self._key_failures, first_s=KEY_RETRY_FIRST_S, max_s=KEY_RETRY_MAX_S)
        self._next_key_at = self._now() + pause_s

    def _send_status(self, *, is_last: bool = False) -> None:
        report = self._status.report(self._now(), heartbeat_s=0.0 if is_last else HEARTBEAT_S)
        if report is not None and self._post(paths.WORKER_STATUS, report.body):
            self._status.sent(report, self._now())

    def _send_ended(self) -> None:
        while (ended := self._status.ended()) is not None and self._post(paths.DELETE_REQUESTS, ended.body):
            self._status.took(ended)

    def _post(self, path: str, body: dict[str, Any]) -> bool:
        for address in self._link.report_addrs:
            if path == paths.DELETE_REQUESTS and address.endswith(_NO_DELETES_SUFFIX):
                continue
            try:
                answer = self._http.post(address + path, json=body, timeout=ANSWER_TIMEOUT_S, allow_redirects=False)
            except requests.RequestException as error:
                self._complain(address + path, f"no answer: {error}")
                continue
            if answer.ok and not answer.is_redirect:
                self._refusals.pop(address + path, None)
                return True
            self._complain(address + path, f"status {answer.status_code}: {answer.text[:200]}")
        return False

    def _complain(self, url: str, problem: str) -> None:
        """Logs each problem with an address once, until that address accepts something again."""
        if self._refusals.get(url) != problem:
            self._refusals[url] = problem
            log.warning("%s: %s", url, problem)


def unix_time() -> float:
    """The wall clock, which Vast's reports carry."""
    return time.time()  # noqa: TID251 - this is the edge
