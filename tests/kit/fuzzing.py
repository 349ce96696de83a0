"""Requests that are made of a schema, right ones and wrong ones, sent to a server: what none may get is a 5xx.

`attack` sends them. `WORKER` and `CLASSIC` describe what is served without a document of its own: the Null PyWorker's
two ports, and a classic backend.

schemathesis is imported where it is used: it takes a second, and each of the tests' processes collects all tests.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    import schemathesis

    #: Sends a case, which is the n-th, and returns its answer.
    Send = Callable[["schemathesis.Case[Any]", int], "schemathesis.Response"]

#: Of what failed, so many are kept whole.
KEPT = 5
#: Of an operation at a time, where there is a time for all of them.
EXAMPLES_AT_A_TIME = 25


@dataclass
class Fuzzed:
    """What came of it."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    #: How to repeat those that got a 5xx, and what they got; the first few.
    failures: list[str] = field(default_factory=list)

    @property
    def server_errors(self) -> int:
        """How many got a 5xx."""
        return sum(count for status, count in self.statuses.items() if status >= 500)


class _TimeIsOver(Exception):  # noqa: N818 - it is no error
    """Ends the operation in hand."""


def attack(schema: Any, send: Send, *, examples: int = 0, seconds: float = 0.0, without: Container[str] = ()) -> Fuzzed:
    """Sends requests of each operation of a schema.

    Args:
        schema: of schemathesis.
        send: sends one.
        examples: so many of each operation; 0: as many as there is time for.
        seconds: for so long.
        without: paths that are left out.
    """
    from schemathesis.core.result import Ok

    found = Fuzzed()
    ends_at = time.monotonic() + seconds

    def sent(case: schemathesis.Case[Any]) -> None:
        if not examples and time.monotonic() >= ends_at:
            raise _TimeIsOver
        response = send(case, found.requests)
        found.requests += 1
        found.statuses[response.status_code] += 1
        if response.status_code >= 500 and len(found.failures) < KEPT:
            found.failures.append(f"{case.as_curl_command()} got {response.status_code}: {response.text[:500]}")

    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    try:
        while True:
            for operation in operations:
                if operation.path not in without:
                    _run(operation, sent, examples or EXAMPLES_AT_A_TIME)
            if examples:
                return found
    except _TimeIsOver:
        return found


def _run(operation: Any, sent: Callable[[Any], None], examples: int) -> None:
    checks, phases = list(HealthCheck), (Phase.generate,)

    @settings(max_examples=examples, deadline=None, suppress_health_check=checks, database=None, phases=phases)
    def run(case: schemathesis.Case[Any]) -> None:
        sent(case)

    given(case=operation.as_strategy())(run)()


# ----------------------------------------------------------------------------------------------------------- schemas

_TEXT = {"type": "string"}
_ANYTHING: dict[str, Any] = {}
_NUMBER = {"type": "number"}
_AUTH_DATA = {
    "type": "object",
    "required": ["url", "signature", "cost", "endpoint", "reqnum", "request_idx"],
    "properties": {
        "url": _TEXT, "signature": _TEXT, "cost": _NUMBER, "endpoint": _TEXT, "reqnum": {"type": "integer"},
        "request_idx": {"type": "integer"}, "grant": _TEXT,
    },
}  # fmt: skip


def _body(required: list[str], **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": required, "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _query(**parameters: Any) -> dict[str, Any]:
    return {"parameters": [{"name": name, "in": "query", "schema": schema} for name, schema in parameters.items()]}


def _document(**operations: dict[str, Any]) -> Any:
    """``operations`` are by method and path: ``get /value``."""
    from schemathesis.openapi import from_dict

    found: dict[str, Any] = {}
    for name, described in operations.items():
        method, _, path = name.partition(" ")
        found.setdefault(path, {})[method] = {**described, "responses": {"default": {"description": "any"}}}
    document = {"openapi": "3.0.2", "info": {"title": "fuzzed", "version": "1"}, "paths": found}
    return from_dict(document)


def worker_document() -> Any:
    """What clients ask of a worker, and what its consumer does. Those of the control port begin with ``/control``."""
    create = {
        "lifetime": _NUMBER, "on_close_route": _TEXT, "on_close_payload": {"type": "object"},
    }  # fmt: skip
    session = {"session_id": _TEXT, "session_auth": _AUTH_DATA}
    return _document(
        **{
            "post /session/create": _body(
                ["auth_data", "payload"], auth_data=_AUTH_DATA, payload={"type": "object", "properties": create}
            ),
            "post /session/end": _body(list(session), **session),
            "post /session/get": _body(list(session), **session),
            "post /session/health": _body(list(session), **session),
            "post /ping": _body(["auth_data", "payload"], auth_data=_AUTH_DATA, payload=_ANYTHING, session_id=_TEXT),
            "post /pyworker/update": _body([], version=_TEXT, auth_data=_AUTH_DATA),
            "post /control/release": _query(session_id=_TEXT),
            # A worker that is asked to wait does so, for a minute at most.
            "get /control/reservation": _query(wait={"type": "number", "maximum": 0}, **{"while": _TEXT}),
            "post /control/heartbeat": _query(by=_TEXT),
            "post /control/job": _body(["job"], job=_TEXT),
            # What is right would end the worker, as it should.
            "post /control/fail": _body(["reason"], reason={"type": "array", "items": _NUMBER}),
            "get /control/health": {},
        }
    )


def classic_document() -> Any:
    """What clients ask of the classic backend `ECHO`, by themselves and through an engine."""
    payload = {"type": "object", "properties": {"amount": {"type": "integer"}}}
    return _document(
        **{
            "post /echo": _body(["auth_data", "payload"], auth_data=_AUTH_DATA, payload=payload),
            "put /echo": _body(["amount"], amount={"type": "integer"}),
            "post /value": _body(["auth_data", "payload"], auth_data=_AUTH_DATA, payload=payload),
            "get /value": _query(name=_TEXT),
            "post /session/create": _body(["auth_data"], auth_data=_AUTH_DATA),
        }
    )


#: A classic backend that takes whatever comes: what gets a 5xx from it does so for the server's sake.
ECHO = """
    class Backend:
        pass

    def echo(backend, request):
        return {"json": request.get_json(silent=True), "query": request.args.to_dict(flat=False)}

    flask_dict = {"POST": {"echo": echo}, "PUT": {"echo": echo}, "GET": {"value": echo}}
"""
