"""All bindings of one process: their queues, their shared limits, and an exit that ends no held reservation."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
from typing import TYPE_CHECKING

from nullworker.client import NullClient
from nullworker.client.errors import ClientError, EndpointUnknownError, KeyRefusedError
from nullworker.client.instances import find_instance
from nullworker.demand.reservations import HOLDING
from nullworker.dispatch import machine_claim
from nullworker.dispatch.binding import Binding, BindingSettings, BindingStatus, backoff_s
from nullworker.dispatch.budget import Budget
from nullworker.dispatch.close_webhook import CloseWebhook
from nullworker.dispatch.limits import SharedLimits
from nullworker.dispatch.queue_reporter import QueueReporter
from nullworker.dispatch.reservation_task import ReservationTask, Terms, Tools
from nullworker.dispatch.store import DispatchStore, DispatchStoreError
from nullworker.dispatch.trace import write_trace
from nullworker.queues.registry import open_queue
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path
    from typing import Any

log = logging.getLogger(__name__)

#: How often `Dispatcher.run` checks whether all queues are empty.
EMPTY_CHECK_S = 0.1
#: How often the trace is written, while there is something new in it.
TRACE_WRITE_S = 30.0
#: An engine that takes longer to answer at the start is asked again in the background, while the queues are read.
FIRST_ANSWER_S = 5.0
#: After so long without anything to do, it is said what `Dispatcher.run` waits for before it takes the queue as empty.
LEFT_SAID_S = 20.0


class LeftToOthers:
    """Says once what a queue is not empty of, where nothing is done about that: else the wait looks like a hang."""

    def __init__(self, now_s: Callable[[], float], say: Callable[[str], None] = log.warning) -> None:
        self._now_s = now_s
        self._say = say
        self._since_s: dict[str, float] = {}

    def look(self, binding: Binding) -> None:
        """Looks at a binding; to be called some times a second."""
        left = binding.left_to_others
        if not left:
            self._since_s.pop(binding.name, None)
        elif self._now_s() - self._since_s.setdefault(binding.name, self._now_s()) >= LEFT_SAID_S:
            self._since_s[binding.name] = math.inf  # once
            self._say(
                f"{binding.name}: the queue is not empty ({left}), and no worker of ours is at that; if its consumer "
                "is dead, put the job back or remove it; Ctrl-C ends the wait"
            )


class Dispatcher:
    """Keeps as many reservations as the queues have work. Use as an async context manager around `run`."""

    def __init__(
        self,
        bindings: Sequence[BindingSettings],
        *,
        instance: str = "local",
        api_key: str | None = None,
        store_file: Path,
        shared_cap: int | None = None,
        budget: Budget | None = None,
        trace_file: Path | None = None,
        on_change: Callable[[BindingStatus], None] = lambda _: None,
        say: Callable[[str], None] = log.warning,
    ) -> None:
        """Opens the store; the engine and the queues are not asked yet.

        Args:
            bindings: what to dispatch.
            instance: the engine: ``local``, one of Vast's, or a URL.
            api_key: the engine's key; None: found as `NullClient` finds it.
            store_file: the database of open reservations.
            shared_cap: reservations of all bindings together; None: no limit.
            budget: limits on money; None: no limit.
            trace_file: where a trace for the simulator is kept; None: nowhere.
            on_change: called with the status of a binding when anything of it has changed.
            say: called with a sentence for who waits for the queues to be empty; by default it is logged.

        Raises:
            DispatchStoreError: the store cannot be used, or another process serves one of the bindings with it.
            ClientError: there is no such instance, or no key.
        """
        self._seen: dict[str, BindingStatus] = {}  # by binding
        client = NullClient(instance, api_key)
        self._engine = find_instance(instance)
        self._webhook = CloseWebhook() if self._engine.is_here else None
        self._store = DispatchStore(store_file)
        self._tools = Tools(client, self._store, self._webhook)
        self._say = say
        self._trace_file = trace_file
        self._trace_is_stale = trace_file is not None
        self._stack = contextlib.AsyncExitStack()
        self._claims = contextlib.ExitStack()
        self.bindings = [
            Binding(
                settings,
                self._tools,
                open_queue=functools.partial(open_queue, settings.queue),
                allowed=self._allowed,
                on_closed=self._closed,
                on_change=functools.partial(self._on_change, on_change),
                on_named=self._named,
                holds=self._holds,
            )
            for settings in bindings
        ]
        #: Vast's engine has no place for it.
        self._reporter = QueueReporter(self._tools, self.bindings) if self._engine.url is not None else None
        self._limits = SharedLimits(self.bindings, self._tools, shared_cap, budget or Budget())
        self._unbound: list[ReservationTask] = []
        self._reported = ""  # the engine's trouble, as last reported
        try:
            for binding in self.bindings:
                self._store.claim(binding.name)
                self._claim_on_machine(binding.name)
        except DispatchStoreError:
            self._claims.close()
            self._store.close()
            raise

    def _claim_on_machine(self, binding: str) -> None:
        try:
            claimed = machine_claim.claim(f"{self._engine.label} {binding}")
        except machine_claim.ClaimedError as error:
            raise DispatchStoreError(
                f"Another dispatcher (process {error}) serves {binding} with another --state, and each would reserve a "
                "worker for every job: end it first."
            ) from None
        if claimed is not None:
            self._claims.callback(claimed.close)

    async def __aenter__(self) -> Dispatcher:  # noqa: PYI034 - final in practice
        self._stack.callback(self._store.close)
        self._stack.callback(self._claims.close)
        try:
            await self._stack.enter_async_context(self._tools.client)
            if self._webhook is not None:
                self._stack.push_async_callback(self._webhook.close)
                await self._open_webhook(self._webhook)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    @staticmethod
    async def _open_webhook(webhook: CloseWebhook) -> None:
        try:
            await webhook.open()
        except OSError as error:  # every port is taken, or no more files may be open: workers are polled instead
            log.warning("workers cannot announce ends of sessions (%s); they are polled instead", error)
            webhook.usable = False

    async def __aexit__(self, *_: object) -> None:
        """Ends no held reservation; requests under way are abandoned."""
        reservations = [
            *self._unbound,
            *(reservation for binding in self.bindings for reservation in binding.reservations),
        ]
        running = [
            reservation.running
            for reservation in reservations
            if reservation.running is not None and not reservation.running.done()
        ]
        for task in running:
            task.cancel()  # not withdrawn: what is stored stays for the next dispatcher
        await asyncio.gather(*running, return_exceptions=True)
        self._write_trace()
        await self._stack.aclose()

    def adopt(self) -> int:
        """Continues what an earlier dispatcher left open; returns how many reservations. Call it once, before `run`.

        Raises:
            DispatchStoreError: the store cannot be read.
        """
        adopted = sum(binding.adopt() for binding in self.bindings)
        for name in self._store.other_bindings([binding.name for binding in self.bindings]):
            adopted += self._adopt_unbound(name)
        return adopted

    def _adopt_unbound(self, name: str) -> int:
        """Keeps alive what is held for a binding that is no longer configured, until its job is done."""
        with contextlib.suppress(DispatchStoreError):  # another process serves it
            self._store.claim(name)
            rows = self._store.open_rows(name)
            terms = Terms(name.partition(" ")[0])
            unbound = [ReservationTask(name, self._tools, terms, lambda _: None, row=row) for row in rows]
            for reservation in unbound:
                reservation.adopt()
            self._unbound += unbound
            return len(unbound)
        return 0

    async def run(self, *, until_empty: bool = False) -> None:
        """Dispatches until cancelled, or with ``until_empty`` until all queues are empty and nothing is held.

        Raises:
            KeyRefusedError, EndpointUnknownError, QueueUrlError: at the start, while nothing is held. Later such an
                error may be temporary, and the engine or the queue is asked again.
        """
        work: list[Coroutine[Any, Any, None]] = []
        if not await self._is_served_soon():
            work.append(self._until_served())
        work += [binding.run() for binding in self.bindings]
        if self._trace_file is not None:
            work.append(self._keep_trace())
        if self._reporter is not None:
            work.append(self._reporter.run())
        loops = [tasks.start(each) for each in work]
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
        running, left = set(loops), LeftToOthers(asyncio.get_running_loop().time, self._say)
        while not all(binding.is_done for binding in self.bindings):
            for binding in self.bindings:
                left.look(binding)
            done, running = await asyncio.wait(running, timeout=EMPTY_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def _is_served_soon(self) -> bool:
        # Not wait_for: before Python 3.12 it loses a cancellation that arrives with the answer.
        asking = tasks.start(self._is_served())
        try:
            await asyncio.wait({asking}, timeout=FIRST_ANSWER_S)
        finally:
            if not asking.done():
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        return not asking.cancelled() and asking.result()

    async def _until_served(self) -> None:
        """Returns once the engine accepts the key and has all endpoints.

        Raises:
            KeyRefusedError, EndpointUnknownError: it refuses, and nothing is held.
        """
        failures = 1
        while not await self._is_served():
            await asyncio.sleep(backoff_s(failures))
            failures += 1

    async def _is_served(self) -> bool:
        """Whether the engine accepts the key and has all endpoints; where it is False, the trouble is reported.

        Raises:
            KeyRefusedError, EndpointUnknownError: it refuses, and nothing is held.
        """
        try:
            await check_endpoints(self._tools.client, self._engine.label, [p.settings.endpoint for p in self.bindings])
        except ClientError as error:
            if isinstance(error, (KeyRefusedError, EndpointUnknownError)) and not self._holds():
                raise
            self._report_trouble(str(error))
            return False
        self._report_trouble("")
        return True

    def _holds(self) -> bool:
        reservations = [
            *self._unbound,
            *(reservation for binding in self.bindings for reservation in binding.reservations),
        ]
        return any(reservation.phase in HOLDING for reservation in reservations)

    def _report_trouble(self, sentence: str) -> None:
        for binding in self.bindings:
            if not sentence and binding.trouble != self._reported:
                continue  # the binding has other trouble by now, and clears it itself
            binding.report_trouble(sentence)
        self._reported = sentence

    async def drain(self) -> int:
        """Withdraws waiting requests; returns how many reservations are held, which the next dispatcher adopts."""
        return sum(await asyncio.gather(*(binding.drain() for binding in self.bindings)))

    def _on_change(self, then: Callable[[BindingStatus], None], status: BindingStatus) -> None:
        if self._seen.get(status.queue) == status:
            return
        self._seen[status.queue] = status
        if self._reporter is not None:
            self._reporter.changed()
        then(status)

    def _allowed(self, binding: Binding) -> tuple[int | None, str]:
        return self._limits.allowed(binding)

    def _named(self, binding: Binding, reservation: ReservationTask) -> None:
        if self._reporter is not None:
            self._reporter.named(binding, reservation)

    def _closed(self, binding: Binding) -> None:
        self._limits.closed(binding)
        if self._reporter is not None:  # another may be held in its place, for another job
            self._reporter.changed()
        self._trace_is_stale = self._trace_file is not None

    # ------------------------------------------------------------------------------------------------------------ trace

    async def _keep_trace(self) -> None:
        while True:
            await asyncio.sleep(TRACE_WRITE_S)
            self._write_trace()

    def _write_trace(self) -> None:
        if self._trace_file is None or not self._trace_is_stale:
            return
        try:
            write_trace(self._trace_file, self._store.trace_rows([binding.name for binding in self.bindings]))
        except (OSError, DispatchStoreError) as error:
            log.warning("The trace %s cannot be written: %s.", self._trace_file, error)
        self._trace_is_stale = False


async def check_endpoints(client: NullClient, engine: str, endpoints: Sequence[str]) -> None:
    """Returns if the engine accepts the client's key and has all these endpoints.

    Args:
        client: asks the engine.
        engine: its name, for the message.
        endpoints: the names to look for.

    Raises:
        ClientError: it does not, or cannot be asked.
    """
    known = [endpoint.name for endpoint in await client.endpoints()]
    for name in endpoints:
        if name not in known:
            raise EndpointUnknownError(engine, name, known)
