"""The conformance kit for queue adapters: `check_queue` checks that an adapter reports the truth about its queue.

It is public and needs no pytest: give it a `QueueDriver` that produces and consumes with the real library on
a real broker, and it compares what the adapter reports with what the driver did. Abilities that a broker
lacks are switched off by class attributes of the driver; the result names the checks that were left out.

    async def test_my_queue():
        await check_queue(MyDriver("my-broker://127.0.0.1:4321/?queue=fresh"))
"""

from __future__ import annotations

import abc
import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from nullworker.queues.base import Depth, NamesConsumers, Queue, QueueError, QueueInfo, TakenJob
from nullworker.queues.registry import open_queue
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

#: A push counts as one when it arrives within this time; the promise is 50 ms, the rest is room for a busy machine.
PUSH_LIMIT_S = 2.0
#: A driver may start a program to produce a message, which takes seconds on a busy machine. They are not the queue's.
PRODUCE_S = 30.0
#: How long `changed` is asked to wait when nothing happens.
QUIET_S = 0.2
#: Error messages and warnings are one sentence for a terminal.
MESSAGE_CHARACTERS_MAX = 400


class QueueDriver(abc.ABC):
    """What the kit needs done to a queue; subclass it for an adapter, with the broker's own library.

    The queue must be fresh: nothing was ever produced to it (and where the broker creates queues by itself, it does
    not exist). Class attributes say what the broker and its library are able to do.
    """

    #: The broker tells how many messages are in flight. If not, ``depth().in_flight`` must be None.
    tells_in_flight: ClassVar[bool] = True
    #: `produce_delayed` works, and the adapter counts what is delayed.
    tells_delayed: ClassVar[bool] = True
    #: `pause` and `resume` work, and the adapter sees it.
    tells_paused: ClassVar[bool] = False
    #: `stop_broker` and `start_broker` work. Messages must survive (or there must be none left to lose).
    breaks: ClassVar[bool] = False
    #: `abandon` works.
    abandons: ClassVar[bool] = False
    #: The adapter tells which consumer has which job, and `taken` works.
    names_consumers: ClassVar[bool] = False
    #: How long the broker's counts may lag behind, in seconds: the kit waits up to this long, plus a margin.
    settle_s: ClassVar[float] = 0.0

    def __init__(self, url: str, *, secret: str | None = None, bad_urls: Sequence[str] = ()) -> None:
        """Keeps what the kit asks for.

        Args:
            url: the queue's URL, as a user would write it.
            secret: a password in the URL, which must not appear in any message, name or repr.
            bad_urls: URLs that ``open`` must refuse with a `QueueError`: a missing queue name, an unknown parameter,
                a wrong password, a port that refuses connections.
        """
        self.url = url
        self.secret = secret
        self.bad_urls = tuple(bad_urls)

    @abc.abstractmethod
    async def produce(self, count: int) -> None:
        """Puts ``count`` messages into the queue, due at once."""

    @abc.abstractmethod
    async def consume_one_start(self) -> Any:
        """Takes one message as a consumer does that has room for one; it stays in flight. Returns what `finish` needs.

        Returns when the broker knows that the message is taken.
        """

    @abc.abstractmethod
    async def finish(self, job: Any) -> None:
        """Ends a job begun by `consume_one_start` with success. Returns when the broker knows."""

    async def taken(self, job: Any) -> TakenJob:
        """The id that the broker has for a job begun by `consume_one_start`, and the name of the consumer it has."""
        raise _not_given(self, f"taken({job})")

    async def consume_one_to_kill(self) -> Any:
        """As `consume_one_start`, by a consumer that `abandon` can kill; a process of its own is as real as it gets."""
        return await self.consume_one_start()

    async def abandon(self, job: Any) -> None:
        """Kills the consumer of a job begun by `consume_one_to_kill`, in the middle of it; the broker is told nothing.

        Returns when its lease is over, where the broker or the library has leases.
        """
        raise _not_given(self, f"abandon({job})")

    async def produce_delayed(self, delay_s: float) -> None:
        """Puts one message into the queue that is due in ``delay_s`` seconds."""
        raise _not_given(self, f"produce_delayed({delay_s})")

    async def pause(self) -> None:
        """Pauses the queue by the library's own means: its consumers take nothing."""
        raise _not_given(self, "pause()")

    async def resume(self) -> None:
        """Ends what `pause` began."""
        raise _not_given(self, "resume()")

    async def stop_broker(self) -> None:
        """Stops the broker, so that its port refuses."""
        raise _not_given(self, "stop_broker()")

    async def start_broker(self) -> None:
        """Starts the broker again, on the same port, with the messages it had."""
        raise _not_given(self, "start_broker()")


def _not_given(driver: QueueDriver, name: str) -> AssertionError:
    return AssertionError(f"{type(driver).__name__} does not define {name}, which the kit needs.")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What `check_queue` found: each check by name, those left out with the reason, and how late pushes were."""

    passed: tuple[str, ...]
    left_out: tuple[str, ...]
    info: QueueInfo
    #: From the end of ``produce`` to the return of ``changed``, in seconds; empty where the broker cannot push.
    push_delays_s: tuple[float, ...] = ()
    #: How the lone job of a dead consumer showed: "waiting", "abandoned", "unknown"; empty if it was not tried.
    left: str = ""


@dataclass(slots=True)
class _QueueKit:
    driver: QueueDriver
    open: Callable[[str], Awaitable[Queue]]
    queue: Queue
    patience_s: float
    waiting: int = 0
    in_flight: int = 0
    delayed: int = 0
    passed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    push_delays_s: list[float] = field(default_factory=list)
    left: str = ""

    async def settled(self, what: str, *, paused: bool = False, queue: Queue | None = None) -> Depth:
        """Reads until the depth is what the driver made it; fails with both if it does not become so in time."""
        expected = (
            0 if paused else self.waiting,
            self.in_flight if self.driver.tells_in_flight else None,
            self.delayed if self.driver.tells_delayed else 0,
            paused,
        )
        deadline = _now_s() + self.driver.settle_s + self.patience_s
        while True:
            depth = await (queue or self.queue).depth()
            _check_depth(depth)
            seen = (depth.waiting, depth.in_flight, depth.delayed, depth.paused)
            if seen == expected:
                return depth
            if _now_s() > deadline:
                raise AssertionError(
                    f"{what}: (waiting, in_flight, delayed, paused) should be {expected}, and is {seen}: {depth}"
                )
            await asyncio.sleep(0.02)

    def check_message(self, message: str, where: str) -> None:
        """A sentence for a user: one line, not too long, without the password."""
        assert message.strip(), f"{where}: the message is empty"
        assert "\n" not in message, f"{where}: the message has several lines: {message!r}"
        assert len(message) <= MESSAGE_CHARACTERS_MAX, f"{where}: the message is too long: {message!r}"
        assert message.rstrip().endswith((".", "!", "?", ")")), f"{where}: the message is no sentence: {message!r}"
        self.check_secret(message, where)

    def check_secret(self, text: str, where: str) -> None:
        secret = self.driver.secret
        assert not secret or secret not in text, f"{where} shows the password of the URL"


def _now_s() -> float:
    """The event loop's time, which its limits are kept by: a test may run in a loop with a clock of its own."""
    return asyncio.get_running_loop().time()


async def check_queue(
    driver: QueueDriver,
    *,
    open_queue: Callable[[str], Awaitable[Queue]] = open_queue,
    patience_s: float = 10.0,
) -> CheckResult:
    """Checks a queue adapter against a fresh queue, from empty through all that a driver can do, back to empty.

    Args:
        driver: produces and consumes; its ``url`` is opened.
        open_queue: how to open the adapter; by default through its entry point, as the dispatcher does.
        patience_s: a hang limit in seconds for each reading to become what it should be.

    Returns:
        What was checked, and what was left out because the driver says that the broker cannot do it.

    Raises:
        AssertionError: the adapter broke a rule; the message names the rule.
        QueueError: the adapter could not read the queue when nothing was wrong with it.
    """
    queue = await open_queue(driver.url)
    kit = _QueueKit(driver, open_queue, queue, patience_s)
    try:
        async with queue as entered:
            assert entered is queue, "`async with queue` should give the queue itself"
            assert isinstance(queue, Queue), f"{type(queue).__name__} lacks a method of the Queue protocol"
            await _run(kit, "from zero: a queue that does not exist yet is empty", _from_zero)
            info = await queue.info()
            for name, check in _CHECKS:
                await _run(kit, name, check)
        await _run(kit, "closing twice is no error, reading after that is", _closed)
    finally:
        await queue.close()
    await _run(kit, "bad URLs are refused with one sentence", _bad_urls)
    return CheckResult(tuple(kit.passed), tuple(kit.left_out), info, tuple(kit.push_delays_s), kit.left)


async def _run(kit: _QueueKit, name: str, check: Callable[[_QueueKit], Awaitable[str | None]]) -> None:
    why_not = await check(kit)
    if why_not is None:
        kit.passed.append(name)
    else:
        kit.left_out.append(f"{name} ({why_not})")


def _check_depth(depth: Depth) -> None:
    assert type(depth) is Depth, f"depth() should return a Depth, not {type(depth).__name__}"
    for name in ("waiting", "in_flight", "delayed", "redelivered", "parallel_max", "abandoned"):
        value = getattr(depth, name)
        assert value is None or (type(value) is int and value >= 0), f"Depth.{name} should be 0 or more, not {value!r}"
    assert depth.waiting is not None, "Depth.waiting is never unknown: raise QueueError instead"
    lateness_s = time.time() - depth.sampled_at_s  # noqa: TID251 - compared with a wall-clock stamp
    assert -5 < lateness_s < 600, f"Depth.sampled_at_s should be Unix time of the reading, not {lateness_s:.1f} s ago"
    for name in ("oldest_age_s", "next_due_in_s"):
        value = getattr(depth, name)
        assert value is None or value >= 0, f"Depth.{name} should not be negative: {value!r}"


async def _from_zero(kit: _QueueKit) -> None:
    await kit.settled("before anything was produced")


async def _information(kit: _QueueKit) -> None:
    info = await kit.queue.info()
    assert type(info) is QueueInfo, f"info() should return a QueueInfo, not {type(info).__name__}"
    assert info.kind, "QueueInfo.kind is empty"
    assert info.name, "QueueInfo.name is empty"
    assert info.broker, "QueueInfo.broker is empty"
    assert info.lag_s >= 0
    assert info.lease_s is None or info.lease_s > 0
    codes = [warning.code for warning in info.warnings]
    assert len(set(codes)) == len(codes), f"the same warning twice: {codes}"
    for warning in info.warnings:
        assert warning.code == warning.code.lower().replace(" ", "-"), f"no machine word: {warning.code!r}"
        kit.check_message(warning.message, f"warning {warning.code}")
    kit.check_secret(repr(info), "info()")
    kit.check_secret(repr(kit.queue), "the queue's repr")


async def _waiting(kit: _QueueKit) -> None:
    await kit.driver.produce(3)
    kit.waiting += 3
    await kit.settled("after 3 messages were produced")


async def _reading_takes_nothing(kit: _QueueKit) -> None:
    await asyncio.gather(*(kit.queue.depth() for _ in range(10)))
    await kit.queue.info()
    await kit.queue.changed(0.01)
    await kit.settled("after reading it ten times at once")


async def _cancelled(kit: _QueueKit) -> None:
    """A reading that is cancelled half-way must not leave its answer to the next one."""
    reads = (kit.queue.depth, kit.queue.info, lambda: kit.queue.changed(30))
    for read, delay_s in itertools.product(reads, (0.0, 0.001, 0.02)):
        task: asyncio.Task[object] = tasks.start(cast("Any", read)())
        await asyncio.sleep(delay_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await kit.settled("after a cancelled reading")


async def _in_flight(kit: _QueueKit) -> None:
    jobs = []
    for number in (1, 2):
        jobs.append(await kit.driver.consume_one_start())
        kit.waiting, kit.in_flight = kit.waiting - 1, kit.in_flight + 1
        await kit.settled(f"after {number} of the messages was taken by a consumer")
    await _named(kit, jobs)
    for job in jobs:
        await kit.driver.finish(job)
        kit.in_flight -= 1
        await kit.settled("after a consumer finished its message")
    await _named(kit, [])


async def _named(kit: _QueueKit, jobs: Sequence[Any]) -> None:
    """Which consumer has which job is told as it is, where it is told."""
    if not kit.driver.names_consumers:
        return
    assert isinstance(kit.queue, NamesConsumers), f"{type(kit.queue).__name__} lacks the method taken()"
    expected = sorted([await kit.driver.taken(job) for job in jobs], key=lambda each: each.job)
    found = sorted(await kit.queue.taken(), key=lambda each: each.job)
    assert found == expected, f"taken() should be {expected}, not {found}"


async def _consumers(kit: _QueueKit) -> str | None:
    """Named consumers were looked at while there were any: what is left is what the driver says about the adapter."""
    if kit.driver.names_consumers:
        return None
    assert not isinstance(kit.queue, NamesConsumers), (
        f"{type(kit.queue).__name__} has taken(), which is to be tested: give the driver names_consumers and taken()"
    )
    return "the broker does not tell which consumer has which job"


async def _second_reader(kit: _QueueKit) -> None:
    other = await kit.open(kit.driver.url)
    try:
        await kit.settled("as a second reader sees it", queue=other)
    finally:
        await other.close()
    await kit.settled("after a second reader closed")


async def _delayed(kit: _QueueKit) -> str | None:
    if not kit.driver.tells_delayed:
        return "the broker does not tell what is delayed"
    await kit.driver.produce_delayed(1000)
    kit.delayed += 1
    depth = await kit.settled("after a message was produced that is due in 1000 s")
    due = depth.next_due_in_s
    assert due is None or 900 < due <= 1001, f"Depth.next_due_in_s should be about 1000, not {due}"
    return None


async def _paused(kit: _QueueKit) -> str | None:
    if not kit.driver.tells_paused:
        return "the library cannot pause a queue"
    await kit.driver.pause()
    await kit.settled("while the queue is paused", paused=True)
    codes = [warning.code for warning in (await kit.queue.info()).warnings]
    assert "paused" in codes, f"info() should warn with the code 'paused' of a paused queue, not only {codes}"
    await kit.driver.resume()
    await kit.settled("after the queue was resumed")
    return None


async def _changes(kit: _QueueKit) -> str | None:
    queue = kit.queue
    while await queue.changed(QUIET_S):  # what happened before counts once
        pass
    began = _now_s()
    assert await queue.changed(QUIET_S) is False, "changed() should be False when nothing happened"
    waited_s = _now_s() - began
    assert waited_s > QUIET_S * 0.8, f"changed({QUIET_S}) came back after {waited_s:.3f} s though nothing happened"
    if not (await queue.info()).pushes:
        return "info() says that the broker does not push"
    for early in (False, True):
        limit_s = PUSH_LIMIT_S + kit.driver.settle_s
        task = None if early else tasks.start(queue.changed(PRODUCE_S + limit_s))
        await asyncio.sleep(0.05)  # lets the task reach the broker; without it the other order is checked, also right
        await kit.driver.produce(1)
        began = time.monotonic()
        if task is None:
            saw = await queue.changed(limit_s)
        else:
            done, _ = await asyncio.wait({task}, timeout=limit_s)
            saw = bool(done) and task.result()
            if not done:
                task.cancel()
        when = "before changed() was called" if early else "while changed() waited"
        assert saw, f"a message was produced {when}, and changed() did not say so in {PUSH_LIMIT_S} s"
        kit.push_delays_s.append(time.monotonic() - began)
        kit.waiting += 1
        await kit.settled(f"after a message was produced {when}")
    return None


async def _broken(kit: _QueueKit) -> str | None:
    if not kit.driver.breaks:
        return "the driver cannot stop the broker"
    await kit.driver.stop_broker()
    for what in ("depth", "info"):
        try:
            answer = await getattr(kit.queue, what)()
        except QueueError as error:
            kit.check_message(str(error), f"{what}() while the broker is down")
        else:
            raise AssertionError(f"{what}() while the broker is down should raise QueueError, not return {answer}")
    began = _now_s()
    try:
        await kit.queue.changed(QUIET_S)
    except QueueError as error:
        kit.check_message(str(error), "changed() while the broker is down")
    assert _now_s() - began < kit.patience_s, "changed() hangs while the broker is down"
    await kit.driver.start_broker()
    deadline = _now_s() + kit.patience_s
    while True:
        try:
            await kit.queue.depth()
            break
        except QueueError:
            assert _now_s() < deadline, "depth() should work again when the broker is back"
            await asyncio.sleep(0.05)
    await kit.settled("after the broker was down and came back")
    return None


async def _emptied(kit: _QueueKit) -> None:
    while kit.waiting:
        job = await kit.driver.consume_one_start()
        kit.waiting, kit.in_flight = kit.waiting - 1, kit.in_flight + 1
        await kit.settled("while the rest is consumed")
        await kit.driver.finish(job)
        kit.in_flight -= 1
    await kit.settled("after everything was consumed")


async def _abandoned(kit: _QueueKit) -> str | None:
    """The lone job of a dead consumer, with nothing else in the queue: it waits again, or is said to be left."""
    if not kit.driver.abandons:
        return "the driver cannot kill a consumer"
    await kit.driver.produce(1)
    kit.waiting += 1
    await kit.settled("after one message was produced")
    job = await kit.driver.consume_one_to_kill()
    kit.waiting, kit.in_flight = kit.waiting - 1, kit.in_flight + 1
    await kit.settled("while a consumer is at it")
    await kit.driver.abandon(job)
    kit.in_flight -= 1
    await _left(kit)
    job = await kit.driver.consume_one_start()
    kit.in_flight += 1
    await kit.settled("after another consumer has brought it back")
    await kit.driver.finish(job)
    kit.in_flight -= 1
    await kit.settled("after that one finished it")
    return None


async def _left(kit: _QueueKit) -> None:
    """Waits until the depth shows that a consumer is needed, or that this cannot be told."""
    deadline = _now_s() + kit.driver.settle_s + kit.patience_s
    while True:
        depth = await kit.queue.depth()
        _check_depth(depth)
        if depth.abandoned is None:
            assert depth.in_flight, f"Depth.abandoned is unknown only of what is in flight: {depth}"
            info = await kit.queue.info()
            assert info.lease_s or "no-lease" in {warning.code for warning in info.warnings}, (
                "where Depth.abandoned is unknown, info().lease_s says when to look after it, or a warning 'no-lease' "
                "how to say so"
            )
            kit.left = "unknown"
            return
        if depth.waiting + depth.abandoned == 1 and not depth.in_flight:
            kit.left = "waiting" if depth.waiting else "abandoned"
            return
        assert _now_s() < deadline, (
            f"the job of a dead consumer should be waiting or abandoned, or Depth.abandoned unknown: {depth}"
        )
        await asyncio.sleep(0.02)


async def _closed(kit: _QueueKit) -> None:
    await kit.queue.close()
    await kit.queue.close()
    try:
        await kit.queue.depth()
    except QueueError as error:
        kit.check_message(str(error), "depth() after close()")
    else:
        raise AssertionError("depth() after close() should raise QueueError")


async def _bad_urls(kit: _QueueKit) -> str | None:
    if not kit.driver.bad_urls:
        return "the driver names none"
    for url in kit.driver.bad_urls:
        try:
            queue = await kit.open(url)
        except QueueError as error:
            kit.check_message(str(error), f"open({url!r})")
        else:
            await queue.close()
            raise AssertionError(f"open({url!r}) should raise QueueError")
    return None


_CHECKS: tuple[tuple[str, Callable[[_QueueKit], Awaitable[str | None]]], ...] = (
    ("info() is complete, its warnings are sentences", _information),
    ("what is produced is waiting", _waiting),
    ("reading takes nothing", _reading_takes_nothing),
    ("a cancelled reading does no harm", _cancelled),
    ("what a consumer holds is in flight, or unknown", _in_flight),
    ("which consumer has which job is told as it is", _consumers),
    ("a second reader sees the same", _second_reader),
    ("what is due later is delayed, not waiting", _delayed),
    ("a paused queue has nothing waiting", _paused),
    ("changed() tells of changes, and of nothing else", _changes),
    ("a broker that is down is an error, and no more when it is back", _broken),
    ("what is consumed is gone", _emptied),
    ("the lone job of a dead consumer calls for another", _abandoned),
)
