"""docs/chaos.json: how many episodes of each kind were run on the code as it is, and how many before.

The code is named by a digest of all that an episode may run. After a change of it, the counts of kinds begin at 0.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs" / "chaos.json"
#: What an episode runs; of the package, all but the simulator, which no process of an episode loads.
FOLDERS = ("nullworker", "workers", "tools/chaos")
NOT_RUN = ROOT / "nullworker" / "simulation"


def code_digest() -> str:
    """Names the code as it is now: what is said of another does not hold for it."""
    digest = hashlib.sha256()
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.is_relative_to(NOT_RUN):
                continue
            digest.update(f"{path.relative_to(ROOT)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class Record:
    """The file. Several runs may add to it at the same time."""

    def __init__(self, path: Path = RECORD, code: str = "") -> None:
        """Takes the file, and the digest of the code that is run."""
        self._path = path
        self.code = code or code_digest()

    def add(self, kind: str, seed: int, seconds: float, found: list[str]) -> None:
        """Adds an episode.

        Args:
            kind: of the fault.
            seed: of the episode.
            seconds: that it took.
            found: what broke.
        """
        today = dt.datetime.now(dt.timezone.utc).date().isoformat()
        with self._changed() as record:
            if record["code"] != self.code:
                record |= {"code": self.code, "since": today, "kinds": {}}
            row = record["kinds"].setdefault(kind, {"episodes": 0, "broken": 0, "seconds": 0.0})
            row["episodes"] += 1
            row["broken"] += bool(found)
            row["seconds"] = round(row["seconds"] + seconds, 1)
            record["episodes"] += 1
            record["broken"] += bool(found)
            if found:
                record["violations"].append(
                    {"on": today, "code": self.code, "kind": kind, "seed": seed, "what": found[:10]}
                )

    def of_code(self) -> dict[str, Any]:
        """The rows of kinds, of the code as it is now."""
        record = self.read()
        return dict(record["kinds"]) if record["code"] == self.code else {}

    def read(self) -> dict[str, Any]:
        """All of it."""
        if not self._path.exists():
            return {"code": "", "since": "", "kinds": {}, "episodes": 0, "broken": 0, "violations": []}
        return dict(json.loads(self._path.read_text()))

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """What is in it, to be changed by one run at a time, and written whole or not at all."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            record = self.read()
            yield record
            written = self._path.with_suffix(".new")
            written.write_text(json.dumps(record, indent=1) + "\n")
            written.replace(self._path)
        finally:
            os.close(folder)
