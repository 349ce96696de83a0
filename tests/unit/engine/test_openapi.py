from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nullworker.engine.api.openapi import Route, openapi
from nullworker.engine.api.routes import ROUTES
from nullworker.wire.decoding import decode
from nullworker.wire.types import EndpointBody, RouteReady, RouteRequest, RouteWaiting, WorkerRow

DOCUMENT = openapi(ROUTES, "1.2.3")
WITH_BODY = [route for route in ROUTES if route.request is not None]


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def test_the_document_is_openapi_and_json() -> None:
    """Read by a tool that others made."""
    from schemathesis.openapi import from_dict

    whole = json.loads(msgspec.json.encode(DOCUMENT))
    from_dict(whole).validate()
    assert whole["info"]["version"] == "1.2.3"


def test_every_route_is_documented_once() -> None:
    documented = [(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods]
    assert sorted(documented) == sorted((route.method, route.path) for route in ROUTES)
    names = [operation(route)["operationId"] for route in ROUTES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_says_what_it_takes_what_it_answers_and_which_key_it_needs(route: Route) -> None:
    shown = operation(route)
    assert shown["summary"] == route.summary
    assert ("description" in shown) == (route.auth != "none")
    assert ("requestBody" in shown) == (route.request is not None)
    assert list(shown["responses"]["200"]["content"]) == [route.media]
    assert {"400", "401", "403", "404", "405", "413"} <= set(shown["responses"])
    named = {parameter["name"] for parameter in shown.get("parameters", [])}
    assert named == {name for name, _ in route.query} | ({"id"} if "{id}" in route.path else set())


def test_several_answers_are_a_choice_and_a_list_is_a_list() -> None:
    routes = [
        Route("POST", "/a/", "a", "A", "none", RouteRequest, (RouteReady, RouteWaiting)),
        Route("GET", "/b/{id}/", "b", "B", "none", None, list[WorkerRow]),
    ]
    paths = openapi(routes, "1")["paths"]
    choice = paths["/a/"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]["oneOf"]
    assert [each["$ref"].rpartition("/")[2] for each in choice] == ["RouteReady", "RouteWaiting"]
    rows = paths["/b/{id}/"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert rows == {"type": "array", "items": {"$ref": "#/components/schemas/WorkerRow"}}


@settings(suppress_health_check=list(HealthCheck), max_examples=60, deadline=None)
@given(data=st.data())
def test_a_body_that_fits_the_document_is_taken(data: st.DataObject) -> None:
    """What others generate from the document decodes, so that the document says no more than is so."""
    from schemathesis.openapi import from_dict

    schema = from_dict(json.loads(msgspec.json.encode(DOCUMENT)))
    route = data.draw(st.sampled_from(WITH_BODY))
    assert route.request is not None
    case = data.draw(schema[route.path][route.method].as_strategy())
    if isinstance(case.body, (dict, list)):
        decode(route.request, json.dumps(case.body).encode())


def test_bounds_are_in_the_document() -> None:
    fields = DOCUMENT["components"]["schemas"][RouteRequest.__name__]["properties"]
    assert (fields["cost"]["minimum"], fields["cost"]["maximum"]) == (0, 1e9)
    assert fields["endpoint"]["maxLength"] == 200
    state = DOCUMENT["components"]["schemas"][EndpointBody.__name__]["properties"]["endpoint_state"]
    assert {"enum": ["active", "stopped", "suspended"]} in state["anyOf"]
