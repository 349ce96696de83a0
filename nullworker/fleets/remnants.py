"""Directories that could not be removed when they were to be, and that are when it is tried again."""

from __future__ import annotations

import contextlib
import shutil
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: So many are tried at a time, those that were tried longest ago first: of what can never be removed many may gather.
_AT_ONCE = 8


class Remnants:
    """What is left of directories: with a full disk, or without a free descriptor, removing one fails half-way.

    Several threads may use one.
    """

    def __init__(self) -> None:
        self._left: dict[Path, None] = {}
        self._lock = threading.Lock()

    def remove(self, path: Path) -> None:
        """Removes a directory; what cannot be removed now is kept in mind. Raises OSError when something stays."""
        with self._lock:
            self._left.pop(path, None)
        try:
            shutil.rmtree(path)
        except OSError:
            if path.exists():
                with self._lock:
                    self._left[path] = None
                raise

    def try_to_remove(self, path: Path) -> None:
        """As `remove`; what stays now goes at another time."""
        with contextlib.suppress(OSError):
            self.remove(path)

    def sweep(self) -> None:
        """Removes what is kept in mind, as far as that is possible now."""
        with self._lock:
            tried = list(self._left)[:_AT_ONCE]
            for path in tried:
                del self._left[path]
        for path in tried:
            self.try_to_remove(path)
