"""``metrics.py`` and ``logwatch.py``: optional files beside ``backend.py`` whose methods are called as hooks.

Both keep the classic framework's names, so that a file written for it works here; every method is optional. An
exception in one is logged, once for each method, and never fails a request. docs/classic-backends.md has the contract.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from nullworker.classic.readiness import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nullworker.classic.readiness import Readiness

log = logging.getLogger(__name__)

#: What ``fill_data`` may say to the engine. Load and requests in hand are counted by the runtime itself.
FIGURES = ("max_perf", "cur_perf", "cur_capacity", "max_capacity")


class _UserObject:
    """An object of the user's code, which may lack any method; its methods are called one at a time."""

    def __init__(self, user_object: object, what: str) -> None:
        self._user_object = user_object
        self._what = what
        self._lock = threading.Lock()
        self._complained: set[str] = set()

    def call(self, name: str, *args: object) -> object:
        """Calls the method ``name`` where there is one; None where there is none or it raised."""
        method = getattr(self._user_object, name, None)
        if not callable(method):
            return None
        try:
            with self._lock:
                return method(*args)
        except Exception:
            if name not in self._complained:
                self._complained.add(name)
                log.exception(
                    "%s.%s raised; its result is ignored, and further errors of it are not logged", self._what, name
                )
            return None

    def attribute(self, name: str) -> object:
        return getattr(self._user_object, name, None)


class Metrics:
    """The backend's own measurements.

    ``is_driven``: each request is reported to it here. A backend that made its own ``metrics`` does that itself.
    """

    def __init__(self, user_object: object | None, *, is_driven: bool) -> None:
        self._user_object = _UserObject(user_object, "Metrics") if user_object is not None else None
        self._is_driven = is_driven and user_object is not None

    def begin(self, payload: object) -> MeasuredRequest:
        """A handler begins with this JSON (a copy of it goes to the user's object), or with None."""
        user_object = self._user_object if self._is_driven else None
        return MeasuredRequest(user_object, dict(payload) if isinstance(payload, dict) else {})

    def figures(self) -> dict[str, float]:
        """What it says of the worker: those of `FIGURES` that are numbers."""
        if self._user_object is None:
            return {}
        data: dict[str, object] = {}
        self._user_object.call("fill_data", data)
        return {name: value for name in FIGURES if (value := number(data.get(name))) is not None}

    def report(self, facts: Mapping[str, object]) -> None:
        """Passes on what is known of the model, by the classic method that is for it."""
        if self._user_object is None:
            return
        if facts.get("loaded"):
            self._user_object.call("report_loaded", dict(facts))
        elif facts.get("loading"):
            self._user_object.call("report_loading", dict(facts))
        elif facts.get("error_msg"):
            self._user_object.call("report_error", dict(facts))
        elif "max_batch_tokens" in facts or "max_capacity" in facts:
            self._user_object.call("report_batch_capacity", dict(facts))
        else:
            self._user_object.call("report_req_stats", dict(facts))


class MeasuredRequest:
    """One request, as it is reported to the user's metrics; ended once."""

    def __init__(self, user_object: _UserObject | None, request: dict[str, Any]) -> None:
        self._user_object = user_object
        self._request = request
        self._began = time.monotonic()
        if user_object is not None:
            user_object.call("start_req", request)

    def end(self, *, ok: bool) -> None:
        """The handler is done."""
        user_object, self._user_object = self._user_object, None
        if user_object is not None:
            self._request["time_elapsed"] = time.monotonic() - self._began
            user_object.call("finish_req" if ok else "error_req", self._request)


class LogWatch:
    """Interprets the model's log, line by line.

    Args:
        user_object: the LogWatch of ``logwatch.py``.
        readiness: is given what a line means.
        metrics: are given it, too.
    """

    def __init__(self, user_object: object, readiness: Readiness, metrics: Metrics) -> None:
        self._user_object = _UserObject(user_object, "LogWatch")
        self._readiness = readiness
        self._metrics = metrics

    def line(self, line: str) -> None:
        """One line of the log, with its end."""
        if self._user_object.attribute("loading") is False and self._user_object.call("check_loading", line):
            return
        facts = self._user_object.call("handle_line", line)
        if isinstance(facts, dict):
            learn(facts, self._readiness, self._metrics)


def learn(facts: Mapping[str, object], readiness: Readiness, metrics: Metrics) -> None:
    """Passes facts on to the worker's readiness and to the backend's metrics.

    Args:
        facts: what a log line or a POST has said, in Vast's words.
        readiness: takes what concerns it.
        metrics: get all of it.
    """
    readiness.learn(facts)
    metrics.report(facts)
