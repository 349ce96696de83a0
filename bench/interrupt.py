"""SIGTERM ends a benchmark as Ctrl-C does, with all that it started."""

from __future__ import annotations

import os
import signal

import psutil


def install() -> None:
    """From now on SIGTERM does what a terminal does at Ctrl-C: SIGINT for this process and its children."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(*_: object) -> None:
    for child in psutil.Process().children():
        if os.getpgid(child.pid) == os.getpgrp():  # an engine has a session of its own, and is ended by whom it serves
            child.send_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
