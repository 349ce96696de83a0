"""Backends written into a temporary folder, and the import system as it was before each test."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class WriteBackend(Protocol):
    """Writes a backend's files and returns the folder that the backend's lies in."""

    def __call__(self, name: str, **files: str) -> Path: ...


@pytest.fixture(autouse=True)
def imports_as_before() -> Iterator[None]:
    """Loading a backend changes the import path and what is imported; a test leaves neither behind."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
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
