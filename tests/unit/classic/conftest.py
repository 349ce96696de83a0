"""Backends written into a temporary folder, and the import system as it was before each test."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class WriteBackend(Protocol):
    """Writes a backend's files and returns the folder that the backend's lies in."""

    def __call__(self, name: str, **files: str) -> Path: ...


@pytest.fixture(autouse=True)
def imports_as_before(tmp_path: Path) -> Iterator[None]:
    """Loading a backend changes the import path and what is imported; a test leaves neither behind.

    Other modules stay: a library that was imported for the first time, and in C, cannot be imported a second time.
    """
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", [])]
        if any(Path(place).is_relative_to(tmp_path) for place in places if place):
            del sys.modules[name]


@pytest.fixture
def write_backend(tmp_path: Path) -> WriteBackend:
    def write(name: str, **files: str) -> Path:
        folder = tmp_path / "workers" / name
        folder.mkdir(parents=True)
        for stem, text in files.items():
            (folder / f"{stem}.py").write_text(dedent(text))
        return folder.parent

    return write
