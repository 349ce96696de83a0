"""What all tests share: on a busy machine slow is no failure, and a process starts with no more than it needs."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests import schedule

settings.register_profile("nullworker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nullworker")

# vastai imports distutils: where Python has its own, setuptools' in its place costs each of many processes 0.2 s.
# pyproject.toml has the warning ignored that Python's own gives.
if sys.version_info < (3, 12):
    os.environ.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")

# aiohttp reads the certificates of all the world's authorities when it is imported, which costs each process 0.07 s.
# Tests talk to this machine alone, and name the certificate of the authority that they made.
os.environ.setdefault("SSL_CERT_FILE", os.devnull)

# Under nohup, or in the background of a script, signals are ignored, and by all processes that are started from here as
# well: Ctrl-C would end none. A handler that does nothing is not inherited.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


# Modules and tests stay until the end: the garbage collector need not look through them, neither meanwhile nor later.
gc.disable()


def pytest_collection_finish() -> None:
    """Sets aside what was loaded."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Arranges tests after they were shuffled; where one process runs all, those of a module stay together."""
    if getattr(config.option, "loadgroup", False):  # which xdist sets in the processes that run tests
        schedule.arrange(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Has our groups scheduled."""
    return schedule.scheduler(config, log) if config.getvalue("dist") == "loadgroup" else None
