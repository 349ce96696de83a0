"""What people and tools ask an engine about itself: its state in numbers, its decisions at four levels, a story."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from nullworker.core import explain, views
from nullworker.engine.api.http import read, reply
from nullworker.engine.decisions import LEVELS, Decision, Decisions
from nullworker.wire.decoding import decode
from nullworker.wire.errors import NotFoundError, WireError
from nullworker.wire.types import GetLogs, Logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from nullworker.core.engine import Engine
    from nullworker.engine.api.refusals import Refusals
    from nullworker.engine.auth.account import AccountAuth
    from nullworker.engine.catalog import Catalog
    from nullworker.engine.dispatchers import Dispatchers
    from nullworker.engine.driver import AsyncDriver
    from nullworker.engine.usage import Usage

#: Lines of a level that are given without a `tail`.
TAIL_DEFAULT = 1_000
#: Decisions in one story.
STORY_MAX = 1_000


class StatusApi:
    """The handlers that change nothing."""

    def __init__(
        self,
        driver: AsyncDriver,
        catalog: Catalog,
        decisions: Decisions,
        account_auth: AccountAuth,
        usage: Usage,
        complaints: Callable[[], list[str]],
        dispatchers: Dispatchers,
        refusals: Refusals,
    ) -> None:
        """Takes what its handlers use.

        Args:
            driver: feeds the core.
            catalog: endpoints and workergroups.
            decisions: what was decided, and why.
            account_auth: checks the keys of calls.
            usage: how long workers were in each state.
            complaints: what is wrong with the engine itself, in sentences.
            dispatchers: what dispatchers told of their queues.
            refusals: what was refused, counted.
        """
        self._driver = driver
        self._catalog = catalog
        self._decisions = decisions
        self._account_auth = account_auth
        self._usage = usage
        self._complaints = complaints
        self._dispatchers = dispatchers
        self._refusals = refusals

    async def health(self, _request: web.BaseRequest) -> web.Response:
        """Says without a key that the engine runs, and whether all is well with it (`status` says what is not)."""
        return reply({"ok": True, "well": not self._complaints()})

    async def endpoint_logs(self, request: web.BaseRequest) -> web.Response:
        """The decisions about one endpoint at their four levels."""
        body = decode(GetLogs, await read(request))
        self._account_auth.check_reader(request, body.api_key)
        entry = self._catalog.endpoint(body.id)
        return reply(_logs(self._decisions.about(endpoint_id=entry.endpoint_id), body.tail))

    async def workergroup_logs(self, request: web.BaseRequest) -> web.Response:
        """The decisions about the workers of one workergroup at their four levels."""
        body = decode(GetLogs, await read(request))
        self._account_auth.check_reader(request, body.api_key)
        entry = self._catalog.workergroup(body.id)
        workers = views.worker_refs(self._driver.engine)
        mine = frozenset(w.worker_id for w in workers if w.workergroup_id == entry.workergroup_id)
        about = self._decisions.about(worker_ids=mine) if mine else []
        return reply(_logs(about, body.tail))

    async def status(self, request: web.BaseRequest) -> web.Response:
        """Every endpoint in numbers, with its workers and waiters."""
        self._account_auth.check_reader(request, None)
        engine = self._driver.engine
        rows: list[dict[str, Any]] = []
        for view in views.endpoints(engine):
            row = views.as_json(view)
            row["workers_list"] = views.workers(engine, view.id)
            row["waiters"] = views.waiters(engine, view.id)
            row["left_over"] = view.id in self._catalog.left_over  # an earlier configuration file had it
            rows.append(row)
        return reply(
            {
                "success": True,
                "endpoints": rows,
                "queues": self._dispatchers.rows(self._driver.now()),
                "held_calls": self._driver.holding,
                "refused": self._refusals.by_kind(),
                "complaints": self._complaints(),
                "usage_s": {str(group): states for group, states in self._usage.by_group(self._driver.now()).items()},
            }
        )

    async def story(self, request: web.BaseRequest) -> web.Response:
        """Why an endpoint, worker, request or the engine is as it is, and what was decided about it, in order.

        ``?about=`` takes an endpoint's name, `worker ID`, `request ID`, or `engine`.
        """
        self._account_auth.check_reader(request, None)
        about = request.query.get("about", "")
        kind, identity = self._meant(about)
        decisions = self._about(kind, identity)
        answer = self._answer(kind, identity)
        if not decisions and not answer:
            raise NotFoundError(f"Nothing is known of {about}; `nullworker status` lists endpoints and workers.")
        return reply(
            {
                "success": True,
                "about": {"kind": kind, "id": identity},
                "answer": answer or over(kind, identity, decisions),
                "now": self._now(kind, identity),
                "decisions": [{**d._asdict(), "level": LEVELS[d.level]} for d in decisions[-STORY_MAX:]],
            }
        )

    def _about(self, kind: str, identity: int) -> list[Decision]:
        if kind == "endpoint":
            return self._decisions.about(endpoint_id=identity)
        if kind == "worker":
            return self._decisions.about(worker_id=identity)
        if kind == "request":
            return self._decisions.about(request_idx=identity)
        return [d for d in self._decisions.about() if not (d.endpoint_id or d.worker_id or d.request_idx)]

    def _meant(self, about: str) -> tuple[str, int]:
        entry = self._catalog.by_name.get(about)
        if entry is not None:
            return "endpoint", entry.endpoint_id
        if about == "engine":
            return "engine", 0
        word, _, number = about.replace("-", " ").rpartition(" ")
        kinds = {"worker": "worker", "w": "worker", "request": "request", "r": "request", "endpoint": "endpoint"}
        if number.isascii() and number.isdigit() and len(number) < 16:
            if word.strip().lower() in kinds:
                return kinds[word.strip().lower()], int(number)
            if not word:
                return self._numbered(int(number))
        raise WireError("about", f"{about or 'about'} is no endpoint's name, and not `worker ID` or `request ID`.")

    def _numbered(self, number: int) -> tuple[str, int]:
        """A bare number: a worker if there is or was one, else a request, else an endpoint."""
        engine = self._driver.engine
        if views.worker_ref(engine, number) is not None or self._decisions.about(worker_id=number):
            return "worker", number
        if views.reservation(engine, number) is not None or self._decisions.about(request_idx=number):
            return "request", number
        return "endpoint", number

    def _answer(self, kind: str, identity: int) -> str:
        engine, now = self._driver.engine, self._driver.now()
        if kind == "engine":
            totals = views.totals(engine)
            endpoints, workers = _counted(totals.endpoints, "endpoint"), _counted(totals.workers, "worker")
            return " ".join(
                [f"The engine has {endpoints} with {workers}, and {totals.waiting} wait.", *self._complaints()]
            )
        return _one_stop(_ANSWERS[kind](engine, identity, now))

    def _now(self, kind: str, identity: int) -> dict[str, Any]:
        engine = self._driver.engine
        if kind == "endpoint":
            endpoint = views.endpoint(engine, identity)
            return {} if endpoint is None else views.as_json(endpoint)
        if kind == "worker":
            worker = views.worker(engine, identity)
            return {} if worker is None else views.as_json(worker)
        reservation = views.reservation(engine, identity)
        if reservation is None:
            return {}
        blocker, why = explain.blocker(engine, identity)
        return {
            "request_idx": identity,
            "stage": reservation.stage,
            "worker": reservation.worker_id,
            "why": why,
            "why_code": blocker.value,
        }


_ANSWERS: dict[str, Callable[[Engine, int, float], str]] = {
    "endpoint": explain.about_endpoint,
    "worker": explain.about_worker,
    "request": explain.about_request,
}


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def over(kind: str, identity: int, decisions: list[Decision]) -> str:
    """The last decision about what is gone, as a sentence.

    Args:
        kind: ``endpoint``, ``worker`` or ``request``.
        identity: its number.
        decisions: those about it, oldest first; at least one.
    """
    last = decisions[-1]
    at = dt.datetime.fromtimestamp(last.at_s, dt.timezone.utc)
    text = f"{kind.capitalize()} {identity} is over: {last.kind} at {at:%Y-%m-%d %H:%M:%S} UTC, {last.reason}."
    return _one_stop(text)


def _one_stop(sentence: str) -> str:
    """``sentence`` with one full stop, where it ends with a reason that is a whole sentence itself."""
    return sentence[:-1] if sentence.endswith("..") else sentence


def line(decision: Decision) -> str:
    """One decision as a line of a log."""
    at = dt.datetime.fromtimestamp(decision.at_s, dt.timezone.utc)
    subject = " ".join(
        f"{name} {value}"
        for name, value in (("worker", decision.worker_id), ("request", decision.request_idx))
        if value
    )
    what = f"{decision.kind} {subject}" if subject else decision.kind
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} {what}: {decision.reason}"


def _logs(decisions: list[Decision], tail: int | None) -> Logs:
    """Each level holds its own decisions and those of the levels above it."""
    texts = []
    for level in range(len(LEVELS)):
        lines = [line(d) for d in decisions if d.level <= level]
        most = TAIL_DEFAULT if tail is None else tail
        texts.append("\n".join(lines[len(lines) - min(most, len(lines)) :]))
    return Logs(*texts)
