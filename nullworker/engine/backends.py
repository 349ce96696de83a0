"""Which backends can be run here: folders of ``workers/`` with a worker.py, or with the classic guide's backend.py."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def knows_backend(name: str, paths: Sequence[str] = ()) -> bool:
    """Whether ``workers/<name>`` can be run: by ``python -m workers.<name>.worker``, or as a classic backend.

    Looked for in the folders ``workers`` of ``paths`` first, then in the installed one.
    """
    if not _NAME.fullmatch(name):
        return False
    spec = importlib.util.find_spec("workers")
    installed = () if spec is None or spec.submodule_search_locations is None else spec.submodule_search_locations
    folders = [Path(path).expanduser() / "workers" / name for path in paths] + [Path(root) / name for root in installed]
    return any(
        (name.isidentifier() and (folder / "worker.py").is_file()) or (folder / "backend.py").is_file()
        for folder in folders
    )


def workers_paths(fleets: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The folders that ``workers_path`` of ``[fleet.processes]`` names; the fleet checks it, when it is opened."""
    paths = fleets.get("processes", {}).get("workers_path", [])
    return [str(path) for path in paths] if isinstance(paths, list) else [str(paths)]
