"""Directories that could not be removed when they were to be, and that are when it is tried again."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Remnants:
    """What is left of directories: with a full disk, or without a free descriptor, removing one fails half-way.

    Several threads may use one.
    """

    def __init__(self) -> None:
        self._left: set[Path] = set()

    def remove(self, path: Path) -> None:
        """Removes a directory; what cannot be removed now is kept in mind. Raises OSError when something stays."""
        try:
            shutil.rmtree(path)
        except OSError:
            if path.exists():
                self._left.add(path)
                raise
        self._left.discard(path)

    def sweep(self) -> None:
        """Removes what is kept in mind, as far as that is possible now."""
        for path in tuple(self._left):
            with contextlib.suppress(OSError):
                self.remove(path)
