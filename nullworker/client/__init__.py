"""Reservations from a program: ``reserve()`` for one worker, ``NullClient`` for many. Needs aiohttp and nothing else.

Reading order:

- ``client``: what a program calls.
- ``acquire``: from asking an engine to holding a worker, and how to stop half-way without leaving anything behind.
- ``reservation`` and ``keepalive``: while a worker is held.
- ``engine_client`` and ``worker_client``: every call that an engine or a worker is sent, each with its limit and with
  what each answer means; ``http`` makes the call, ``trust`` knows which certificates to accept.
- ``recovery``: what became of a session whose holder died while it was being created.
- ``instances``: which engine, and with which key. ``retry``: limits, pauses, and when to give up.
- ``models``: values that say what an engine or a worker has answered. ``errors``: every failure, in one sentence.

The names below are loaded when first used: a command line that only prints its help should not import aiohttp.
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
