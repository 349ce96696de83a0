import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullworker.worker.messages import BadMessageError, create, held, ping, read_object

AUTH = {"url": "http://a:1", "signature": "c2ln", "cost": 100, "endpoint": "e", "reqnum": 5, "request_idx": 6}
PAYLOAD = {"lifetime": 60.0, "on_close_route": None, "on_close_payload": None}


def body(auth: dict[str, Any] | None = None, payload: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"auth_data": {**AUTH, **(auth or {})}, "session_id": None, "payload": {**PAYLOAD, **(payload or {})}}


def test_what_the_sdk_sends_is_understood() -> None:
    wanted = create(body(), signed=True)
    assert (wanted.auth.url, wanted.auth.request_idx, wanted.auth.grant) == ("http://a:1", 6, None)
    assert (wanted.lifetime_s, wanted.on_close_route) == (60.0, None)


def test_unknown_fields_pass() -> None:
    wanted = create(body({"newer": [1]}, {"newer": {}}), signed=True)
    assert wanted.auth.data["newer"] == [1]


def test_who_names_no_lifetime_gets_the_frameworks() -> None:
    assert create({"auth_data": AUTH, "payload": {}}, signed=True).lifetime_s == 60.0


@pytest.mark.parametrize("field", ["url", "signature", "cost", "endpoint", "reqnum", "request_idx"])
@pytest.mark.parametrize("value", [None, [], {}, True])
def test_auth_data_of_the_wrong_kind_is_named(field: str, value: object) -> None:
    with pytest.raises(BadMessageError, match=rf"^auth_data\.{field} must be"):
        create(body({field: value}), signed=True)


@pytest.mark.parametrize("field", ["url", "signature", "cost", "endpoint", "reqnum", "request_idx"])
def test_missing_auth_data_is_named(field: str) -> None:
    auth = {k: v for k, v in AUTH.items() if k != field}
    with pytest.raises(BadMessageError, match=rf"^auth_data\.{field} is missing\.$"):
        create({"auth_data": auth, "payload": PAYLOAD}, signed=True)


@pytest.mark.parametrize("key", ["auth_data", "payload"])
@pytest.mark.parametrize("value", [None, 5, "x", []])
def test_both_halves_must_be_objects(key: str, value: object) -> None:
    with pytest.raises(BadMessageError, match=rf"^{key} must be an object"):
        create({**body(), key: value}, signed=True)
    with pytest.raises(BadMessageError, match=rf"^{key} is missing"):
        create({k: v for k, v in body().items() if k != key}, signed=True)


@pytest.mark.parametrize("value", [0, -1, "60", None, True, [], 10**400])
def test_a_lifetime_is_a_positive_number(value: object) -> None:
    with pytest.raises(BadMessageError, match=r"^payload\.lifetime must be"):
        create(body(payload={"lifetime": value}), signed=True)


@pytest.mark.parametrize("value", [2**53, -(2**53), 1.0, "6"])
def test_a_request_idx_is_a_whole_number_that_json_can_hold(value: object) -> None:
    with pytest.raises(BadMessageError, match="request_idx"):
        create(body({"request_idx": value}), signed=True)


def test_without_signatures_none_is_asked_for() -> None:
    auth = {k: v for k, v in AUTH.items() if k != "signature"}
    assert create({"auth_data": auth, "payload": PAYLOAD}, signed=False).auth.signature == ""


@pytest.mark.parametrize("route", ["https://a.example/x?y=1", "http://127.0.0.1:9/", "http://[::1]:9/x"])
def test_a_callback_is_an_absolute_url(route: str) -> None:
    assert create(body(payload={"on_close_route": route}), signed=True).on_close_route == route


@pytest.mark.parametrize(
    "route",
    [
        "/done",
        "",
        "done",
        "//a.example/x",
        "ftp://a.example/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://user@a.example/",
        "http://user:word@a.example/",
        "http://a.example:0/",
        "http://a.example:x/",
        "http://[::1/",
        "http://a.example\\@b.example/",
        "http://a.example/\nx",
        "http://a b/",
        5,
        {},
    ],
)
def test_a_callback_of_another_kind_is_refused(route: object) -> None:
    with pytest.raises(BadMessageError, match=r"^payload\.on_close_route must be"):
        create(body(payload={"on_close_route": route}), signed=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        "null",
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a":' * 40 + "1" + "}" * 40,
        '{"a":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"a": ' + "9" * 5_000 + "}",
    ],
)
def test_what_is_no_unambiguous_json_object_is_refused(text: str) -> None:
    with pytest.raises(BadMessageError, match=r"^The body .*\.$"):
        read_object(text.encode())


def test_what_is_not_utf_8_is_refused() -> None:
    with pytest.raises(BadMessageError, match="UTF-8"):
        read_object(b'{"a": "\xff"}')


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadMessageError):
        assert isinstance(read_object(data), dict)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "auth_data": _JSON | st.fixed_dictionaries({}, optional=dict.fromkeys([*AUTH, "grant"], _JSON)),
            "payload": _JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(PAYLOAD, _JSON)),
            "session_id": _JSON,
            "session_auth": _JSON,
        },
    )
)
def test_any_object_is_understood_or_refused(value: dict[str, Any]) -> None:
    for understand in (lambda: create(value, signed=True), lambda: held(value), lambda: ping(value, signed=False)):
        with contextlib.suppress(BadMessageError):
            understand()


def test_a_session_is_named_by_text() -> None:
    assert held({"session_id": "s", "session_auth": {"a": 1}}).session_id == "s"
    wrongs: list[dict[str, Any]] = [{}, {"session_id": ""}, {"session_id": {}}, {"session_id": 5}]
    for wrong in wrongs:
        with pytest.raises(BadMessageError, match="session_id"):
            held(wrong)
    with pytest.raises(BadMessageError, match="session_auth"):
        held({"session_id": "s", "session_auth": "x"})


def test_a_ping_may_stand_outside_a_session() -> None:
    assert ping({"auth_data": AUTH, "payload": {}, "session_id": None}, signed=True).session_id is None
    with pytest.raises(BadMessageError, match="session_id"):
        ping({"auth_data": AUTH, "payload": {}, "session_id": 5}, signed=True)
