"""Which files this process has open: what is refused must not stay open as long as its error is kept."""

from __future__ import annotations

from pathlib import Path


def open_files(directory: Path) -> list[Path]:
    """The files in ``directory`` that this process has open, by the kernel's table."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = descriptor.readlink()
        except FileNotFoundError:  # that of this listing itself
            continue
        if target.is_relative_to(directory):
            found.append(target)
    return found
