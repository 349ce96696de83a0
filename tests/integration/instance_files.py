"""The two files of a machine that vastai's framework reads its certificate from, for one test at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CERTIFICATE, KEY = Path("/etc/instance.crt"), Path("/etc/instance.key")
LOCK = Path(tempfile.gettempdir()) / "nullworker-tests-instance-files.lock"


@contextlib.contextmanager
def no_instance_certificate() -> Iterator[None]:
    """They are not there, and no other test makes them meanwhile; skips the test on a machine that has its own."""
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if CERTIFICATE.exists() or KEY.exists():
            pytest.skip("/etc/instance.crt and .key belong to this machine")
        yield


@contextlib.contextmanager
def instance_certificate() -> Iterator[None]:
    """They are not there before and after; skips the test where they cannot be made."""
    with no_instance_certificate():
        if not os.access("/etc", os.W_OK):
            pytest.skip("/etc/instance.crt and .key cannot be made here")
        try:
            yield
        finally:
            CERTIFICATE.unlink(missing_ok=True)
            KEY.unlink(missing_ok=True)
