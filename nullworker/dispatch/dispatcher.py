"""All pairs of one process: their queues, their shared limits, and an end that ends no held reservation."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import TYPE_CHECKING

from nullworker.client import NullClient
from nullworker.client.errors import ClientError, EndpointUnknownError, KeyRefusedError
from nullworker.client.instances import find_instance
from nullworker.dispatch.history import write_history
from nullworker.dispatch.ledger import Ledger, LedgerError
from nullworker.dispatch.limits import SharedLimits
from nullworker.dispatch.money import Budget
from nullworker.dispatch.notices import Notices
from nullworker.dispatch.pair import Pair, PairSettings, backoff_s
from nullworker.dispatch.plan import HOLDING
from nullworker.dispatch.slots import OpenSlot, Terms, Tools
from nullworker.queues.registry import open_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path
    from typing import Any

log = logging.getLogger(__name__)

#: How often `Dispatcher.run` looks whether all queues are empty.
LOOK_S = 0.1
#: How often the history is written, while there is something new in it.
HISTORY_S = 30.0
#: An engine that takes longer to name its endpoints is asked again while the queues are read already.
FIRST_ANSWER_S = 5.0


class Dispatcher:
    """Keeps as many reservations as the queues have work. Use as an async context manager around `run`."""

    def __init__(
        self,
        pairs: Sequence[PairSettings],
        *,
        instance: str = "local",
        api_key: str | None = None,
        ledger_file: Path,
        shared_cap: int | None = None,
        budget: Budget | None = None,
        history: Path | None = None,
        on_change: Callable[[Pair], None] = lambda _: None,
    ) -> None:
        """Nothing is asked yet.

        Raises:
            LedgerError: the ledger cannot be used, or another process dispatches one of the pairs with it.
            ClientError: there is no such instance, or no key.
        """
        client = NullClient(instance, api_key)
        self._engine = find_instance(instance)
        self._notices = Notices() if self._engine.is_here else None
        self._ledger = Ledger(ledger_file)
        self._tools = Tools(client, self._ledger, self._notices)
        self._history = history
        self._history_is_old = history is not None
        self._stack = contextlib.AsyncExitStack()
        self.pairs = [
            Pair(
                settings,
                self._tools,
                open_queue=functools.partial(open_queue, settings.queue),
                allowed=self._allowed,
                on_closed=self._closed,
                on_change=on_change,
                holds=self._holds,
            )
            for settings in pairs
        ]
        self._limits = SharedLimits(self.pairs, self._tools, shared_cap, budget or Budget())
        self._strays: list[OpenSlot] = []
        self._said = ""  # of the engine
        try:
            for pair in self.pairs:
                self._ledger.claim(pair.name)
        except LedgerError:
            self._ledger.close()
            raise

    async def __aenter__(self) -> Dispatcher:  # noqa: PYI034 - final in practice
        self._stack.callback(self._ledger.close)
        await self._stack.enter_async_context(self._tools.client)
        if self._notices is not None:
            await self._notices.open()
            self._stack.push_async_callback(self._notices.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends nothing that is held; what is being asked for is given up."""
        slots = [*self._strays, *(slot for pair in self.pairs for slot in pair.slots)]
        tasks = [slot.task for slot in slots if slot.task is not None and not slot.task.done()]
        for task in tasks:
            task.cancel()  # not withdrawn: what the ledger says stays for the next dispatcher
        await asyncio.gather(*tasks, return_exceptions=True)
        self._write_history()
        await self._stack.aclose()

    def adopt(self) -> int:
        """Takes up what a dispatcher before this one left open; returns how many. To be called before `run`, once.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        adopted = sum(pair.adopt() for pair in self.pairs)
        for name in self._ledger.other_pairs([pair.name for pair in self.pairs]):
            adopted += self._adopt_strays(name)
        return adopted

    def _adopt_strays(self, name: str) -> int:
        """What is held for a queue that nobody dispatches any more is kept alive until its job is done."""
        with contextlib.suppress(LedgerError):  # another process does dispatch it
            self._ledger.claim(name)
            rows = self._ledger.open_rows(name)
            terms = Terms(name.partition(" ")[0])
            strays = [OpenSlot(name, self._tools, terms, lambda _: None, row=row) for row in rows]
            for stray in strays:
                stray.adopt()
            self._strays += strays
            return len(strays)
        return 0

    async def run(self, *, until_empty: bool = False) -> None:
        """Dispatches until cancelled, or with ``until_empty`` until all queues are empty and nothing is held.

        Raises:
            KeyRefusedError, EndpointUnknownError, QueueUrlError: at the start, as long as nothing is held. Later, the
                engine or the queue may be on its way to what it was, and is asked again.
        """
        work: list[Coroutine[Any, Any, None]] = []
        if not await self._is_served_soon():
            work.append(self._until_served())
        work += [pair.run() for pair in self.pairs]
        if self._history is not None:
            work.append(self._keep_history())
        loops = [asyncio.ensure_future(each) for each in work]
        try:
            if until_empty:
                await self._until_empty(loops)
            else:
                await asyncio.gather(*loops)
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)

    async def _until_empty(self, loops: Sequence[asyncio.Future[None]]) -> None:
        running = set(loops)
        while not all(pair.is_done for pair in self.pairs):
            done, running = await asyncio.wait(running, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _is_served_soon(self) -> bool:
        # Not wait_for, which loses a cancellation that comes with the answer (until Python 3.12).
        asking = asyncio.ensure_future(self._is_served())
        try:
            await asyncio.wait({asking}, timeout=FIRST_ANSWER_S)
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        return not asking.cancelled() and asking.result()

    async def _until_served(self) -> None:
        """Returns once the engine takes our key and has our endpoints.

        Raises:
            KeyRefusedError, EndpointUnknownError: it does not, and nothing is held.
        """
        failures = 1
        while not await self._is_served():
            await asyncio.sleep(backoff_s(failures))
            failures += 1

    async def _is_served(self) -> bool:
        """Whether the engine takes our key and has our endpoints; False: it cannot be told, or not now, and is said.

        Raises:
            KeyRefusedError, EndpointUnknownError: it does not, and nothing is held.
        """
        try:
            await check_endpoints(self._tools.client, self._engine.label, [p.settings.endpoint for p in self.pairs])
        except ClientError as error:
            if isinstance(error, (KeyRefusedError, EndpointUnknownError)) and not self._holds():
                raise
            self._say(str(error))
            return False
        self._say("")
        return True

    def _holds(self) -> bool:
        slots = [*self._strays, *(slot for pair in self.pairs for slot in pair.slots)]
        return any(slot.phase in HOLDING for slot in slots)

    def _say(self, sentence: str) -> None:
        for pair in self.pairs:
            if not sentence and pair.trouble != self._said:
                continue  # it has another by now, and knows when that is over
            pair.say(sentence)
        self._said = sentence

    async def drain(self) -> int:
        """Withdraws what only waits; returns how many are held, which the next dispatcher adopts."""
        return sum(await asyncio.gather(*(pair.drain() for pair in self.pairs)))

    def _allowed(self, pair: Pair) -> tuple[int | None, str]:
        return self._limits.allowed(pair)

    def _closed(self, pair: Pair) -> None:
        self._limits.closed(pair)
        self._history_is_old = self._history is not None

    # --------------------------------------------------------------------------------------------------------- history

    async def _keep_history(self) -> None:
        while True:
            await asyncio.sleep(HISTORY_S)
            self._write_history()

    def _write_history(self) -> None:
        if self._history is None or not self._history_is_old:
            return
        try:
            write_history(self._history, self._ledger.history([pair.name for pair in self.pairs]))
        except (OSError, LedgerError) as error:
            log.warning("The history %s cannot be written: %s.", self._history, error)
        self._history_is_old = False


async def check_endpoints(client: NullClient, engine: str, endpoints: Sequence[str]) -> None:
    """Whether the engine (its name is for the message) takes the client's key, and has all these endpoints.

    Raises:
        ClientError: it does not, or cannot be asked.
    """
    known = [endpoint.name for endpoint in await client.endpoints()]
    for name in endpoints:
        if name not in known:
            raise EndpointUnknownError(engine, name, known)
