"""The key that an engine of a test signs with: one for all of a process, for making one takes 0.05 s of each test."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from nullworker.engine.auth import signing
from nullworker.engine.state_dir import read_or_create

if TYPE_CHECKING:
    from pathlib import Path

_made_once = functools.cache(signing._new_key)


def give_signing_key(state: Path) -> None:
    """Puts the key into a state directory that has none."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    read_or_create(state / signing.KEY_FILE, _made_once)
