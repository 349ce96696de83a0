"""/openapi.json, made from the route table and the wire types: what is served is what is documented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from nullworker.wire.types import ErrorBody

if TYPE_CHECKING:
    from collections.abc import Iterable

Auth = Literal["account", "operator", "reader", "key", "endpoint", "worker", "none"]

_AUTH = {
    "account": "The account key or one of role `admin`, as `Authorization: Bearer`, or `api_key` in query or body.",
    "operator": "As `account`, and keys of role `operate`.",
    "reader": "As `operator`, and keys of role `read`, or the cookie of a page signed in with one.",
    "key": "An endpoint's key, the account key, or one of role `route`, `operate` or `admin`: for what it routes to.",
    "endpoint": "The endpoint's key, or one whose role routes to it, as `api_key` in the body or as bearer token.",
    "worker": "The worker's token, as `mtoken` in the body.",
    "none": "",
}
_REFUSALS = {
    "400": "A field is wrong; `field` names it.",
    "401": "No key, or one that is unknown.",
    "403": "A key for something else.",
    "404": "There is no such thing.",
    "405": "The path takes other methods.",
    "413": "The body is too large.",
    "429": "Too many do this already; later it may be taken.",
}


@dataclass(frozen=True, slots=True)
class Route:
    """One path with one method, and the name of what serves it."""

    method: str
    path: str  # {id} stands for a number
    handler: str
    summary: str
    auth: Auth
    request: type | None = None
    response: Any = None  # a wire type, a list of one, a tuple of choices, or None for what is no JSON of ours
    media: str = "application/json"
    query: tuple[tuple[str, str], ...] = ()  # (name, what it is)
    act: str = ""  # what an operator does by it, for the audit log; "": it is no act


def openapi(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of ``routes``."""
    routes = list(routes)
    kinds = [kind for route in routes for kind in (route.request, *_choices(route)) if kind is not None]
    schemas, components = msgspec.json.schema_components(
        [*kinds, ErrorBody], ref_template="#/components/schemas/{name}"
    )
    of = {str(kind): schema for kind, schema in zip([*kinds, ErrorBody], schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nullworker engine",
            "version": version,
            "description": "Vast Serverless's wire, as the vastai client, worker framework and command line speak it.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler if route.method != "HEAD" else f"head_{route.handler}",
        "summary": route.summary,
        "responses": {"200": _answer(route, of), **_refusals(of)},
    }
    if _AUTH[route.auth]:
        operation["description"] = _AUTH[route.auth]
    parameters = [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in route.query
    ]
    if "{id}" in route.path:
        number = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
        parameters.insert(0, {"name": "id", "in": "path", "required": True, "schema": number})
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        content = {"application/json": {"schema": of[str(route.request)]}}
        operation["requestBody"] = {"required": route.method in ("POST", "PUT"), "content": content}
    return operation


def _choices(route: Route) -> tuple[Any, ...]:
    if isinstance(route.response, tuple):
        return route.response
    return () if route.response is None else (route.response,)


def _answer(route: Route, of: dict[str, Any]) -> dict[str, Any]:
    choices = [of[str(kind)] for kind in _choices(route)]
    schema = {"oneOf": choices} if len(choices) > 1 else (choices or [{}])[0]
    return {"description": "As asked.", "content": {route.media: {"schema": schema}}}


def _refusals(of: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": of[str(ErrorBody)]}}
    return {status: {"description": text, "content": content} for status, text in _REFUSALS.items()}
