"""What is fuzzed: an engine, a worker and a classic backend, each a real one (`tests.kit.fuzzing` has the requests)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import requests

from nullworker.wire import paths
from tests.integration import null_worker_kit as kit
from tests.integration.classic_engines import ScalingEngine
from tests.integration.classic_kit import ClassicProcess, write_backend
from tests.integration.engine.kit import config, quick, running
from tests.kit.fuzzing import ECHO, Fuzzed, attack, classic_document, worker_document
from tests.kit.stub_engine import OURS
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kit.stub_engine import StubEngine

#: A stream without an end, and calls that are held open for seconds by design.
NOT_OF_THE_ENGINE = (paths.LIVE, paths.ROUTE)


async def fuzz_engine(directory: Path, *, examples: int = 0, seconds: float = 0.0) -> Fuzzed:
    """Requests of the engine's own OpenAPI document, with the account key.

    On an engine of its own: what is right changes its state.

    Args:
        directory: an empty one, for its state.
        examples: so many of each operation; 0: as many as there is time for.
        seconds: for so long.
    """
    from schemathesis.openapi import from_url

    async with running(config(directory, quick(max_workers=0))) as engine:
        document = f"{engine.url}{paths.OPENAPI}"
        schema = await asyncio.to_thread(from_url, document)
        kept = requests.Session()  # with a good key on a connection, what is refused of its address is no flood

        def send(case: Any, number: int) -> Any:
            # A right request has another key take the account key's place.
            account = {"Authorization": f"Bearer {engine.server.keys.account_key.reveal()}"}
            if number % 15 == 0:
                assert kept.get(f"{engine.url}{paths.STATUS}", headers=account).status_code == 200
            return case.call(headers=account)

        return await asyncio.to_thread(
            attack, schema, send, examples=examples, seconds=seconds, without=NOT_OF_THE_ENGINE
        )


async def fuzz_worker(directory: Path, *, examples: int = 0, seconds: float = 0.0) -> Fuzzed:
    """Requests to a worker and to its control port: half of the former with what an engine has signed.

    Args:
        directory: an empty one, for its files.
        examples: so many of each operation; 0: as many as there is time for.
        seconds: for so long.
    """
    async with kit.ready_worker(directory) as (engine, worker):
        http = requests.Session()

        def send(case: Any, number: int) -> Any:
            if number % 10 == 0:
                http.post(f"{worker.control_url}/release", timeout=HANG_S)
            if case.path.startswith("/control/"):
                return _called(case, worker.control_url, http, without="/control")
            _sign(case, engine, worker.url, number)
            return _called(case, worker.url, http)

        return await asyncio.to_thread(attack, worker_document(), send, examples=examples, seconds=seconds)


async def fuzz_classic(directory: Path, *, examples: int = 0, seconds: float = 0.0) -> Fuzzed:
    """Requests to a classic backend that an engine sends clients to, and to one that is open to all.

    Args:
        directory: an empty one, for its files.
        examples: so many of each operation; 0: as many as there is time for.
        seconds: for so long.
    """
    root = write_backend(directory, "echo", backend=ECHO)
    arguments = ("echo", "--path", str(root))
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(ScalingEngine(says=OURS, arguments=arguments).running())
        checked = engine.start_worker()
        open_to_all = stack.enter_context(ClassicProcess(*arguments))
        await until(lambda: engine.last.get("loadtime"), "the backend is ready")
        open_to_all.wait_until_up()
        http = requests.Session()

        def send(case: Any, number: int) -> Any:
            if number % 3 == 0:
                return _called(case, open_to_all.url, http)
            _sign(case, engine, checked.url, number)
            return _called(case, checked.url, http)

        return await asyncio.to_thread(attack, classic_document(), send, examples=examples, seconds=seconds)


def _sign(case: Any, engine: StubEngine, url: str, number: int) -> None:
    """Has every second case bear what an engine gives a client, so that the rest of it is looked at."""
    if number % 2 and isinstance(case.body, dict):
        for name in ("auth_data", "session_auth"):
            if name in case.body:
                case.body = {**case.body, name: engine.auth_data(url)}


def _called(case: Any, url: str, http: requests.Session, without: str = "") -> Any:
    """Sends it there; ``without`` is left out at the beginning of its path."""
    asked = case.as_transport_kwargs(base_url=url)
    if without:
        asked["url"] = asked["url"].replace(url + without, url, 1)
    return http.request(**asked, timeout=HANG_S)
