"""Starts every task of the package, so that none ends by an exception without being seen.

asyncio keeps the exception of a task for whatever awaits the task. Where nothing does, it says so when the task is
collected, which may be never. So a task is started here, in one of three ways:

- `start`: for work that its caller awaits, and whose exception is therefore its caller's;
- `watch`: for work that nothing awaits: an exception is logged, and the caller says what is done about it;
- `repeat`: for rounds without end: an exception is logged, and the next round comes all the same.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")

log = logging.getLogger(__name__)


def start(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Starts work whose task the caller awaits."""
    return asyncio.get_running_loop().create_task(work)


def watch(
    work: Coroutine[Any, Any, T], what: str, on_failure: Callable[[str], object] | None = None
) -> asyncio.Task[T]:
    """Starts work whose end nothing awaits.

    Args:
        work: what is done.
        what: names it, at the beginning of a sentence ("The list of a fleet").
        on_failure: called with a sentence when it has ended by an exception, which is logged before; None: there is
            nothing more to do about it.
    """
    task = start(work)
    observe(task, what, on_failure)
    return task


def observe(task: asyncio.Task[Any], what: str, on_failure: Callable[[str], object] | None = None) -> None:
    """Does for a task that was started already what `watch` does.

    Args:
        task: the task.
        what: as for `watch`.
        on_failure: as for `watch`.
    """
    task.add_done_callback(functools.partial(_ended, what, on_failure))


async def repeat(
    step: Callable[[], Awaitable[object]],
    pause_s: float,
    what: str,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Takes a step every ``pause_s`` seconds without end; one that raises is logged, and the next is taken.

    Args:
        step: what is done.
        pause_s: seconds between the end of a step and the beginning of the next.
        what: names it, at the beginning of a sentence.
        sleep: waits.
    """
    while True:
        try:
            await step()
        except Exception:
            log.exception("%s failed; it is tried again in %g s.", what, pause_s)
        await sleep(pause_s)


def failed(what: str, error: BaseException) -> str:
    """The sentence for an exception: what failed, and by what."""
    message = " ".join(str(error).split())
    return f"{what} failed ({type(error).__name__}{f': {message}' if message else ''})."


def _ended(what: str, on_failure: Callable[[str], object] | None, task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        sentence = failed(what, error)
        log.error("%s", sentence, exc_info=error)
        if on_failure is not None:
            on_failure(sentence)
