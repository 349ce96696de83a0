"""The views of `nullworker.views`, as the page and the command line ask for them."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from aiohttp import web

from nullworker.core import views as core_views
from nullworker.engine.api.http import reply
from nullworker.engine.decisions import LEVELS, Decision
from nullworker.views import build, types
from nullworker.views.build import Sources
from nullworker.views.cost_tables import BYS
from nullworker.views.text import clock
from nullworker.wire.errors import NotFoundError, WireError
from nullworker.wire.redaction import from_others

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nullworker.core.parameters import Parameters
    from nullworker.engine.auth.account import AccountAuth
    from nullworker.engine.catalog import Catalog
    from nullworker.engine.cost_keeper import CostKeeper
    from nullworker.engine.decisions import Decisions
    from nullworker.engine.dispatchers import Dispatchers
    from nullworker.engine.drains import Drains
    from nullworker.engine.driver import AsyncDriver
    from nullworker.engine.history_keeper import HistoryKeeper

#: Decisions in one story, and on the page of decisions.
STORY_DECISIONS, DECISIONS_MAX = 200, 300
#: The end of a worker's log that is shown.
LOG_BYTES, LOG_LINES = 16_384, 60

_encode = msgspec.json.Encoder().encode


class Parts(NamedTuple):
    """What views are made of."""

    driver: AsyncDriver
    catalog: Catalog
    decisions: Decisions
    keeper: HistoryKeeper
    costs: CostKeeper
    dispatchers: Dispatchers
    drains: Drains
    complaints: Callable[[], list[str]]
    wall_s: Callable[[], float]
    read_log: Callable[[int, int], Awaitable[bytes]]  # the end of a worker's log, so many bytes at most


class Wish(NamedTuple):
    """Which view is asked for, by its name and what its URL says of it."""

    view: str
    endpoint_id: int = 0  # 0: all
    identity: int = 0  # of a worker or a reservation
    level: int = 2  # of decisions
    by: str = "endpoint"  # what is in a row of costs
    since_s: float = 0.0  # of costs; Unix time


class ViewsApi:
    """The handlers of the views."""

    def __init__(self, parts: Parts, auth: AccountAuth) -> None:
        """Takes what its handlers use.

        Args:
            parts: what views are made of.
            auth: checks keys.
        """
        self._parts = parts
        self._auth = auth
        self._version = version("nullworker")

    async def view(self, request: web.BaseRequest) -> web.Response:
        """One view: ``?view=overview|lanes|waiting|queues|cost|decisions|worker|reservation``."""
        self._auth.check_reader(request)
        body = await self.build(self.wish(request))
        return web.Response(body=body, content_type="application/json")

    async def at(self, request: web.BaseRequest) -> web.Response:
        """Why an endpoint, a worker or a request was as it was at a past time: ``?about=…&at=UNIX_TIME``."""
        self._auth.check_reader(request)
        about = request.query.get("about", "")
        kind, _, number = about.partition(" ")
        if kind not in ("endpoint", "worker", "request") or not number.isascii() or not number.isdigit():
            raise WireError("about", "about must be `endpoint ID`, `worker ID` or `request ID`.")
        if len(number) > 16:
            raise NotFoundError(f"Nothing is known of {kind} {number[:20]}.")
        at_s = _time("at", request.query.get("at", ""))
        moment = await self._parts.keeper.at(
            self._parts.driver.engine, (kind, int(number)), at_s, self._rows(self._about(kind, int(number)))
        )
        if moment is None:  # the cursor stands before it, which is no error
            nothing = f"Nothing was written down of {kind} {int(number)} until {clock(at_s)}."
            moment = types.Moment(about, at_s, nothing, "", "", None, ())
        name = self._name(moment_endpoint(self._parts, kind, int(number)))
        return reply(msgspec.structs.replace(moment, endpoint=name))

    # ------------------------------------------------------------------------------------------------------- building

    def wish(self, request: web.BaseRequest) -> Wish:
        """What a request asks for.

        Raises:
            WireError: it makes no sense.
            NotFoundError: it names an endpoint that is not there.
        """
        query = request.query
        view, name = query.get("view", "overview"), query.get("endpoint", "")
        if view not in _VIEWS:
            raise WireError("view", f"view must be one of {', '.join(_VIEWS)}.")
        entry = self._parts.catalog.by_name.get(name)
        if name and entry is None:
            raise NotFoundError(f"There is no endpoint called {name[:100]}.")
        level, by = query.get("level", "2"), query.get("by", "endpoint")
        if by not in BYS:
            raise WireError("by", f"by must be one of {', '.join(BYS)}.")
        return Wish(
            view,
            0 if entry is None else entry.endpoint_id,
            _number("id", query.get("id", "0")),
            int(level) if level in ("0", "1", "2", "3") else 2,
            by,
            _time("since", query.get("since", "0")),
        )

    async def build(self, wish: Wish, after: int = 0, since_s: float = 0.0) -> bytes:
        """The view in JSON.

        Args:
            wish: which.
            after: of lanes, the ``serial`` of the last answer; 0: all.
            since_s: of lanes that changed since, only what is newer (Unix time).

        Raises:
            NotFoundError: nothing is known of the worker or reservation.
        """
        if wish.view == "lanes":
            return await self._lanes(wish, after, since_s)
        if wish.view == "worker":
            return _encode(await self._worker(wish.identity))
        if wish.view == "reservation":
            return _encode(await self._reservation(wish.identity))
        if wish.view == "cost":
            return _encode(await self._parts.costs.costs(wish.by, wish.since_s, self._name, wish.endpoint_id))
        return _encode(self.quick(wish))

    def quick(self, wish: Wish) -> object:
        """As `build`, for the views that wait for nothing."""
        if wish.view == "waiting":
            return build.waiting_line(self.sources(), wish.endpoint_id)
        if wish.view == "queues":
            return self._queues(self._name(wish.endpoint_id))
        if wish.view == "decisions":
            return self.decisions(wish)
        return self._overview(wish)

    def sources(self) -> Sources:
        """What views are made of now."""
        parts = self._parts
        return Sources(
            parts.driver.engine, parts.keeper.history, self._parameters, self._name, parts.wall_s(), parts.driver.now()
        )

    def _overview(self, wish: Wish) -> types.Overview:
        sources, charts = self.sources(), self._parts.keeper.charts
        rows = [
            build.endpoint_overview(sources, view, charts.get(view.id, ()))
            for view in core_views.endpoints(sources.engine)
            if not wish.endpoint_id or view.id == wish.endpoint_id
        ]
        return types.Overview(sources.now_s, self._version, tuple(rows), tuple(self._parts.complaints()))

    def _queues(self, endpoint: str) -> types.Queues:
        rows = self._parts.dispatchers.rows(self._parts.driver.now())
        shown = [row for row in rows if not endpoint or row["endpoint"] == endpoint]
        return types.Queues(self._parts.wall_s(), tuple(msgspec.convert(shown, list[types.QueueRow])))

    async def _lanes(self, wish: Wish, after: int, since_s: float) -> bytes:
        gone = [worker_id for serial, worker_id in self._parts.keeper.gone if serial > after] if after else []
        history, now_s = self._parts.keeper.history, self._parts.wall_s()
        return await build.lanes_json(history, now_s, after, wish.endpoint_id, gone, since_s)

    def decisions(self, wish: Wish) -> types.DecisionList:
        """The latest decisions down to a level."""
        rows: list[Decision] = []
        for decision in self._parts.decisions.latest():
            if decision.level <= wish.level and (not wish.endpoint_id or decision.endpoint_id == wish.endpoint_id):
                rows.append(decision)
                if len(rows) >= DECISIONS_MAX:
                    break
        return types.DecisionList(self._parts.wall_s(), self._rows(reversed(rows)))

    async def _worker(self, worker_id: int) -> types.WorkerStory:
        lines = _log_tail(await self._parts.read_log(worker_id, LOG_BYTES))
        decisions = self._rows(self._about("worker", worker_id)[-STORY_DECISIONS:])
        story = build.worker_story(self.sources(), worker_id, decisions, lines, self._parts.drains.reason(worker_id))
        if story is None:
            raise NotFoundError(f"Nothing is known of worker {worker_id}.")
        return msgspec.structs.replace(story, cost=await self._parts.costs.of(("worker", worker_id)))

    async def _reservation(self, request_idx: int) -> types.ReservationStory:
        decisions = self._rows(self._about("request", request_idx)[-STORY_DECISIONS:])
        story = build.reservation_story(self.sources(), request_idx, decisions)
        if story is None:
            raise NotFoundError(f"Nothing is known of request {request_idx}.")
        costs = self._parts.costs
        _, queue, job = costs.labels.get(request_idx, (0, "", ""))
        return msgspec.structs.replace(story, cost=await costs.of(("job", request_idx)), queue=queue, job=job)

    def _about(self, kind: str, identity: int) -> list[Decision]:
        about = self._parts.decisions.about
        if kind == "endpoint":
            return about(endpoint_id=identity)
        return about(worker_id=identity) if kind == "worker" else about(request_idx=identity)

    @staticmethod
    def _rows(decisions: Iterable[Decision]) -> tuple[types.DecisionRow, ...]:
        return tuple(
            types.DecisionRow(
                d.at_s, LEVELS[d.level], d.kind, d.endpoint_id, d.worker_id, d.request_idx, d.cause, d.reason
            )
            for d in decisions
        )

    def _parameters(self, endpoint_id: int) -> Parameters | None:
        entry = self._parts.catalog.endpoints.get(endpoint_id)
        return None if entry is None else entry.parameters

    def _name(self, endpoint_id: int) -> str:
        entry = self._parts.catalog.endpoints.get(endpoint_id)
        return "" if entry is None else entry.name


_VIEWS = ("overview", "lanes", "waiting", "queues", "cost", "decisions", "worker", "reservation")


def moment_endpoint(parts: Parts, kind: str, identity: int) -> int:
    """The endpoint of what a moment is about; 0: it is not known any more."""
    if kind == "endpoint":
        return identity
    history = parts.keeper.history
    known = history.workers.get(identity) if kind == "worker" else history.reservations.get(identity)
    return 0 if known is None else known.endpoint_id


def _number(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise WireError(field, f"{field} must be a whole number.")
    return int(text)


def _time(field: str, text: str) -> float:
    try:
        at_s = float(text)
    except ValueError:
        at_s = -1.0
    if not 0 <= at_s <= 1e11:
        raise WireError(field, f"{field} must be a time in seconds since 1970.")
    return at_s


def _log_tail(log: bytes) -> list[str]:
    """The last lines of a log, with everything secret in it masked."""
    lines = log.decode(errors="replace").splitlines()
    if len(log) >= LOG_BYTES:
        del lines[:1]  # it may begin in the middle of a secret, which is recognised by its beginning
    return [from_others(line) for line in lines[-LOG_LINES:]]
