"""A grant is answered, and a worker created, once it is committed; one turn of the event loop is one commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from nullworker.core.causes import Cause
from nullworker.core.commands import Create, Grant
from nullworker.core.events import Asked
from nullworker.engine.driver import AsyncDriver, EngineFailedError
from nullworker.engine.fleet_orders import FleetOrders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.core.events import Event
    from nullworker.fleets.base import Instance


class _Orders:
    fleets = ()


class _Core:
    """Grants a worker to each request."""

    def __init__(self) -> None:
        self.fails = False
        self.commands: list[Command] = []

    def handle(self, event: Any, now: float) -> list[Command]:
        if self.fails:
            raise ValueError
        if self.commands:
            return self.commands
        request_idx = getattr(event, "request_idx", 0)
        return [_grant(request_idx)] if request_idx else []

    def wake_at(self) -> None:
        return None


class _Recorder:
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def decided(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        self.told += [command.request_idx for command in commands if isinstance(command, Grant)]

    def commit(self, engine: Engine) -> None:
        self.told.append("commit")

    def answered(self, engine: Engine) -> None:
        self.told.append("answered")

    def handled(self, engine: Engine, event: Event, now: float, commands: Sequence[Command]) -> None:
        pass

    def failed(self, event: Event, now: float, error: Exception) -> str:
        return "nowhere"


def _grant(request_idx: int) -> Grant:
    return Grant(request_idx, 1, 7, "http://127.0.0.1:1", 100.0, 30.0, next(iter(Cause)), "", 1)


def _driver() -> tuple[AsyncDriver, _Core, _Recorder]:
    recorder, core = _Recorder(), _Core()
    driver = AsyncDriver(cast("FleetOrders", _Orders()), recorder)
    driver.engine = driver._driver.engine = cast("Engine", core)
    return driver, core, recorder


def test_grants_of_one_turn_of_the_loop_are_one_commit_before_any_of_them_is_answered() -> None:
    async def main() -> list[object]:
        driver, _, recorder = _driver()

        async def ask(request_idx: int) -> None:
            answer = await driver.ask(1, request_idx, 100.0, 60.0)
            recorder.told.append(answer)

        await asyncio.gather(ask(1), ask(2), ask(3))
        await asyncio.sleep(0)
        return recorder.told

    assert asyncio.run(main()) == [1, 2, 3, "commit", _grant(1), _grant(2), _grant(3), "answered"]


def test_a_grant_whose_call_was_answered_before_is_committed_too() -> None:
    async def main() -> list[object]:
        driver, _, recorder = _driver()
        driver.handle(Asked(1, 4, 100.0))
        await asyncio.sleep(0)
        return recorder.told

    assert asyncio.run(main()) == [4, "commit", "answered"]


def test_the_end_of_the_driver_commits_and_answers_what_was_granted() -> None:
    async def main() -> tuple[object, list[object]]:
        driver, _, recorder = _driver()
        asked = asyncio.ensure_future(driver.ask(1, 5, 100.0, 60.0))
        asyncio.get_running_loop().call_soon(driver.close().send, None)
        return await asked, recorder.told

    answer, told = asyncio.run(main())
    assert answer == _grant(5)
    assert told[:2] == [5, "commit"]


def test_a_core_that_fails_takes_back_what_it_granted_in_the_same_turn() -> None:
    async def main() -> list[object]:
        driver, core, recorder = _driver()

        async def fail() -> None:
            core.fails = True
            driver.report(Asked(1, 7, 100.0))

        answers = await asyncio.gather(driver.ask(1, 6, 100.0, 60.0), fail(), return_exceptions=True)
        return [type(answers[0]), *recorder.told]

    assert asyncio.run(main()) == [EngineFailedError, 6]


def test_a_creation_is_committed_before_its_fleet_begins_it() -> None:
    async def main() -> list[object]:
        driver, core, recorder = _driver()
        core.commands = [Create(7, 2, next(iter(Cause)), "", 1)]

        class Fleet:
            async def create(self, _: object) -> None:
                recorder.told.append("create")

        orders = FleetOrders(
            cast("Any", {"processes": Fleet()}), cast("Any", lambda order: order), lambda _: "processes"
        )
        driver._orders = orders
        driver.handle(Asked(1, 8, 100.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return recorder.told

    assert asyncio.run(main()) == ["commit", "create", "answered"]


def test_the_end_of_the_driver_is_not_lost_where_a_fleet_answers_in_the_same_moment() -> None:
    """`asyncio.wait_for` of Python 3.11 dropped it, and the engine never ended."""

    async def main() -> None:
        answer: asyncio.Future[list[Instance]] = asyncio.get_running_loop().create_future()

        class Fleet:
            async def list(self) -> list[Instance]:
                return await answer

        orders = FleetOrders(cast("Any", {"processes": Fleet()}), cast("Any", None), lambda _: None)
        driver = AsyncDriver(orders)
        driver.start_listing()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answer.set_result([])
        await asyncio.wait_for(driver.close(), 30.0)

    asyncio.run(main())
