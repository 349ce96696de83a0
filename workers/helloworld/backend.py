"""The classic guide's example: a counter that clients add to and read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Request


class Backend:
    """What the handlers share; one object lives as long as the server does."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self.count = 0


def increment_handler(backend: Backend, request: Request) -> str:
    """POST /increment {"amount": 3}"""
    backend.count += request.json["amount"]
    return "Incremented"


def value_handler(backend: Backend, _request: Request) -> dict[str, int]:
    """GET /value"""
    return {"value": backend.count}


flask_dict = {
    "POST": {"increment": increment_handler},
    "GET": {"value": value_handler},
}
