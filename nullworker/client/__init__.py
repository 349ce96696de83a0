"""Reservations from a program: ``reserve()``, and ``NullClient`` for many of them over one ``vastai`` client.

Reading order: ``client`` (what a program calls), ``acquire`` (from asking to holding, and how to stop half-way),
``reservation`` and ``keepalive`` (while it is held), ``sdk`` (all that is known of ``vastai``), ``demo`` (the command).

The names below are loaded when first used: ``vastai`` takes half a second to import, and a command line that only
prints its help should not pay for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nullworker.client.client import NullClient, reserve
    from nullworker.client.errors import ClientError
    from nullworker.client.models import EndpointInfo, WorkerInfo
    from nullworker.client.reservation import Reservation

__all__ = ["ClientError", "EndpointInfo", "NullClient", "Reservation", "WorkerInfo", "reserve"]

_HOME = {
    "ClientError": "errors",
    "EndpointInfo": "models",
    "NullClient": "client",
    "Reservation": "reservation",
    "WorkerInfo": "models",
    "reserve": "client",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
