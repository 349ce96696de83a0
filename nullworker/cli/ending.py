"""The end of a command after a signal, within a bound: whatever is stuck, the process does not outlive it.

What cannot be cancelled (a thread in a name look-up, an answer that does not come) would otherwise decide how long a
process goes on, and further signals would do nothing. Only for commands whose next start finds what was left.
"""

from __future__ import annotations

import contextlib
import os
import threading


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
