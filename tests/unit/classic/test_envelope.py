from __future__ import annotations

import json
from typing import Any

import pytest

from nullworker.classic.envelope import EnvelopeError, as_query, method_for, read, without_key

AUTH = {
    "request_idx": 5,
    "cost": 100,
    "url": "http://127.0.0.1:3000",
    "signature": "c2ln",
    "endpoint": "e",
    "reqnum": 1,
}


def message(**changes: Any) -> bytes:
    return json.dumps({"auth_data": AUTH, "session_id": None, "payload": {"amount": 3}, **changes}).encode()


def test_a_clients_message_is_read() -> None:
    envelope = read(message())
    assert envelope is not None
    assert (envelope.request_idx, envelope.cost, envelope.url) == (5, 100.0, "http://127.0.0.1:3000")
    assert envelope.payload == {"amount": 3}


def test_a_cost_may_be_a_text_as_the_framework_types_it() -> None:
    envelope = read(message(auth_data={**AUTH, "cost": "12.5"}))
    assert envelope is not None
    assert envelope.cost == 12.5


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"3", b'{"amount": 3}', b'{"payload": 1}', b"\xff\xfe{", b"[" * 100_000]
)
def test_anything_else_is_no_message_and_left_to_the_handler(body: bytes) -> None:
    assert read(body) is None


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"auth_data": None}, 400, "auth_data"),
        ({"auth_data": [1]}, 400, "auth_data"),
        ({"auth_data": {**AUTH, "request_idx": "5"}}, 400, "auth_data.request_idx"),
        ({"auth_data": {**AUTH, "request_idx": True}}, 400, "auth_data.request_idx"),
        ({"auth_data": {**AUTH, "request_idx": -1}}, 400, "auth_data.request_idx"),
        ({"auth_data": {**AUTH, "request_idx": 2**53}}, 400, "auth_data.request_idx"),
        ({"auth_data": {**AUTH, "cost": "much"}}, 400, "auth_data.cost"),
        ({"auth_data": {**AUTH, "cost": -1}}, 400, "auth_data.cost"),
        ({"auth_data": {**AUTH, "cost": float("nan")}}, 400, "auth_data.cost"),
        ({"auth_data": {**AUTH, "cost": 10**400}}, 400, "auth_data.cost"),
        ({"auth_data": {**AUTH, "url": 3}}, 400, "auth_data.url"),
        ({"auth_data": {**AUTH, "signature": None}}, 400, "auth_data.signature"),
        ({"session_id": "abc"}, 410, "session"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], status: int, field: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        read(message(**changes))
    assert caught.value.status == status
    assert field in str(caught.value)


def test_a_message_without_payload_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="payload is missing"):
        read(json.dumps({"auth_data": AUTH}).encode())


@pytest.mark.parametrize(
    ("name", "method"),
    [("increment", "POST"), ("value", "GET"), ("both", "POST"), ("remove", "DELETE"), ("nothing", "POST")],
)
def test_a_post_means_the_handler_that_is_there(name: str, method: str) -> None:
    handlers = {"POST": {"increment", "both"}, "GET": {"value", "both"}, "DELETE": {"remove"}}
    assert method_for(name, handlers) == method


def test_a_payload_becomes_a_query() -> None:
    payload = {"a": 1, "b": "x y&z", "c": True, "d": None, "e": [1, 2.5], "f": ""}
    assert as_query(payload) == "a=1&b=x+y%26z&c=true&e=1&e=2.5&f="
    assert as_query(None) == as_query({}) == ""


@pytest.mark.parametrize("payload", [[1], 3, "text", {"a": {"b": 1}}, {"a": [[1]]}])
def test_what_a_query_can_not_say_is_refused(payload: object) -> None:
    with pytest.raises(EnvelopeError) as caught:
        as_query(payload)
    assert caught.value.status == 400
    assert "payload" in str(caught.value)


def test_the_clients_key_is_taken_out_of_the_query() -> None:
    assert without_key("api_key=secret&x=1&y=") == "x=1&y="
    assert without_key("x=a+b") == "x=a+b"
