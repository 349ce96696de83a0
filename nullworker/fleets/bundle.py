"""The code that a host gets: this package as far as workers and the agent need it, backends and the user's own code.

It is one archive, named by its content: a host that has had it once is not sent it again, and workers that run go on
with the code that they were started with.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes import launch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: The parts of this package that run on a host.
PACKAGES = ("classic", "fleets", "wire", "worker")
#: Where the user's own code is in the archive.
OWN_CODE = "own"
BYTES_MAX = 256 << 20
_SKIPPED = frozenset({"__pycache__", ".git", ".venv", "node_modules", ".mypy_cache", ".pytest_cache", ".ruff_cache"})
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of all files, so that the same content is the same archive


@dataclass(frozen=True, slots=True)
class Bundle:
    """The archive, and what its code needs."""

    name: str  # of its content
    content: bytes
    requirements: tuple[str, ...]  # as pip takes them
    has_own_code: bool


def make_bundle(workers_paths: Sequence[str], code: str, fleet: str = "SSH") -> Bundle:
    """Makes the archive. It reads many files: call it in a thread.

    Args:
        workers_paths: directories that hold a ``workers`` folder, the first of which counts.
        code: a directory of the user's own; "": none.
        fleet: how messages call the fleet.

    Raises:
        FleetError: a file cannot be read, or the whole is too large.
    """
    files: dict[str, Path] = {}
    size = 0
    for name, path in _files(workers_paths, code, fleet):
        if name not in files:
            files[name] = path
            size += path.stat().st_size
            if size > BYTES_MAX:
                raise FleetError(
                    f"What the hosts of the {fleet} fleet are to get is larger than {BYTES_MAX >> 20} MiB: name a "
                    f"smaller directory as code of [fleet.{fleet.lower()}], and keep data elsewhere."
                )
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.external_attr = (files[name].stat().st_mode & 0o777) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, files[name].read_bytes())
    except OSError as error:
        raise FleetError(f"What the hosts of the {fleet} fleet are to get cannot be read ({error}).") from error
    content = buffer.getvalue()
    return Bundle(hashlib.sha256(content).hexdigest()[:32], content, requirements(), bool(code))


def _files(workers_paths: Sequence[str], code: str, fleet: str) -> Iterator[tuple[str, Path]]:
    """The files, each with its name in the archive."""
    package = Path(__file__).parents[1]
    yield "nullworker/__init__.py", package / "__init__.py"
    for part in PACKAGES:
        yield from _below(package / part, f"nullworker/{part}", fleet)
    for root in launch.workers_roots(workers_paths):
        yield from _below(Path(root) / "workers", "workers", fleet)
    if code:
        yield from _below(Path(code), OWN_CODE, fleet)


def _below(folder: Path, name: str, fleet: str) -> Iterator[tuple[str, Path]]:
    try:
        for path in sorted(folder.iterdir()):
            if path.name in _SKIPPED or (path.is_symlink() and path.is_dir()):  # which could lead round in circles
                continue
            if path.is_dir():
                yield from _below(path, f"{name}/{path.name}", fleet)
            elif path.is_file():
                yield f"{name}/{path.name}", path
    except OSError as error:
        raise FleetError(
            f"{folder}, which the hosts of the {fleet} fleet are to get, cannot be read ({error})."
        ) from error


def requirements() -> tuple[str, ...]:
    """What pip installs on a host: that which this package needs for a worker."""
    found = []
    for line in importlib.metadata.requires("nullworker") or ():
        name, _, marker = line.partition(";")
        if "extra ==" not in marker:
            found.append(line)
        elif 'extra == "worker"' in marker.replace("'", '"'):
            found.append(name.strip())
    return tuple(found)
