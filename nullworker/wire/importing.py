"""Imports of much at once, without the garbage collector looking through all of it again and again."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """For the imports of a process that will run for long: they take a tenth less time.

    What is loaded by the end is set aside for good, so that no later collection looks through it either.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
