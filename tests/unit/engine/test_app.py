"""Which handler serves a path, and how all else is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from nullworker.engine.api.app import App
from nullworker.engine.api.openapi import Route

if TYPE_CHECKING:
    from nullworker.engine.api.app import Handler

ROUTES = [
    Route("GET", "/things/", "list", "", "none"),
    Route("POST", "/things/", "make", "", "none"),
    Route("PUT", "/things/{id}/", "change", "", "none"),
    Route("GET", "/things.json", "document", "", "none"),
]


def handler(name: str) -> Handler:
    async def handle(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=name.encode())

    return handle


async def ask(method: str, path: str) -> web.Response:
    app = App(ROUTES, {route.handler: handler(route.handler) for route in ROUTES})
    answer = await app.answer(make_mocked_request(method, path))
    assert isinstance(answer, web.Response)
    return answer


@pytest.mark.parametrize(
    ("method", "path", "served_by"),
    [
        ("GET", "/things/", b"list"),
        ("GET", "/things/?api_key=x", b"list"),
        ("POST", "/things/", b"make"),
        ("PUT", "/things/5/", b"change"),
        ("PUT", "/things/999999999999999/", b"change"),
        ("GET", "/things.json", b"document"),
    ],
)
async def test_a_path_has_its_handler(method: str, path: str, served_by: bytes) -> None:
    answer = await ask(method, path)
    assert (answer.status, answer.body) == (200, served_by)


@pytest.mark.parametrize(
    "path",
    ["/", "/things", "/things/five/", "/things/-1/", "/things/5", "/things/5/6/", "/things/5x/",
     "/things/9999999999999999/", "/thingsxjson", "//things/", "/things/../things/"],
)  # fmt: skip
async def test_what_is_no_path_is_not_found(path: str) -> None:
    answer = await ask("GET", path)
    assert answer.status == 404
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body)["error"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/things/", "GET, POST"), ("HEAD", "/things/", "GET, POST"), ("GET", "/things/5/", "PUT")],
)
async def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str) -> None:
    answer = await ask(method, path)
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
