"""The end of a command after a signal, within a bound: whatever is stuck, the process does not outlive it.

What cannot be cancelled (a thread in a name look-up, an answer that does not come) would otherwise decide how long a
process goes on, and further signals would do nothing. Only for commands whose next start finds what was left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_IMPORT_LOOK_S = 0.02


def hang_up_as_terminate() -> None:
    """From now on SIGHUP, which a terminal sends when it is closed, does in any command what SIGTERM does there.

    Under ``nohup`` it does nothing, as before.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def keep_interrupts_from_imports() -> None:
    """From now on Ctrl-C in the middle of an import comes when that is over.

    Python would drop the exception where it falls into the bookkeeping of imports, and the command would go on. Where
    SIGINT is ignored or handled already, nothing changes.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
            signal.setitimer(signal.ITIMER_REAL, _IMPORT_LOOK_S)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


@contextlib.contextmanager
def noting_interrupts() -> Iterator[threading.Event]:
    """Within it SIGINT and SIGTERM set the event, and do nothing else.

    For a command with a pool of processes: where the pool happens to be in a callback of its own, Python would drop an
    exception.
    """
    interrupted = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: interrupted.set()) for number in numbers}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Processes that are started within it ignore Ctrl-C, which reaches all of a terminal: the command ends them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def end_within(grace_s: float, exit_code: int) -> None:
    """Ends the process after ``grace_s`` seconds, if it has not ended by then.

    Args:
        grace_s: what it has left for ending by itself.
        exit_code: with which it ends otherwise.
    """
    timer = threading.Timer(grace_s, _end_now, (grace_s, exit_code))
    timer.daemon = True  # it keeps no process from ending
    timer.start()


def _end_now(grace_s: float, exit_code: int) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"error: something did not end within {grace_s:g} s of the signal, and was left.\n".encode())
    os._exit(exit_code)
