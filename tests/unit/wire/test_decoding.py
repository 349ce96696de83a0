from __future__ import annotations

import json
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nullworker.wire.decoding import complaint, decode
from nullworker.wire.errors import WireError


class Item(msgspec.Struct):
    number: Annotated[int, msgspec.Meta(ge=0, le=10)]
    choice: Literal["one", "two"] | None = None


class Body(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=5)]
    amount: Annotated[float, msgspec.Meta(gt=0, lt=9)] = 1.0
    items: Annotated[list[Item], msgspec.Meta(max_length=2)] = msgspec.field(default_factory=list)


def refusal(body: str | bytes) -> WireError:
    with pytest.raises(WireError) as caught:
        decode(Body, body.encode() if isinstance(body, str) else body)
    return caught.value


def outcome(body: bytes) -> Body | str:
    try:
        return decode(Body, body)
    except WireError as error:
        return error.message


def test_unknown_fields_pass() -> None:
    assert decode(Body, b'{"name": "a", "later": {"deep": [1]}}') == Body(name="a")


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ("{}", "name", "name is missing."),
        ('{"name": 5}', "name", "name must be text, not a whole number."),
        ('{"name": ""}', "name", "name must be text of at least 1 character."),
        ('{"name": "abcdef"}', "name", "name must be text of at most 5 characters."),
        ('{"name": "a", "amount": "1"}', "amount", "amount must be a number, not text."),
        ('{"name": "a", "amount": true}', "amount", "amount must be a number, not true or false."),
        ('{"name": "a", "amount": 0}', "amount", "amount must be a number over 0."),
        ('{"name": "a", "amount": 9}', "amount", "amount must be a number under 9."),
        ('{"name": "a", "amount": 1e999}', "amount", "amount is a number too large."),
        ('{"name": "a", "amount": NaN}', "amount", "amount must be a finite number."),
        ('{"name": "a", "amount": -Infinity}', "amount", "amount must be a finite number."),
        ('{"name": "a", "items": [{"number": -1}]}', "items[0].number", None),
        ('{"name": "a", "items": [{"number": 1}, {}]}', "items[1].number", "items[1].number is missing."),
        ('{"name": "a", "items": [{"number": 1.5}]}', "items[0].number", None),
        ('{"name": "a", "items": [{"number": "1"}]}', "items[0].number", None),
        ('{"name": "a", "items": [{"number": 1e300}]}', "items[0].number", None),
        (
            '{"name": "a", "items": [{"number": 1, "choice": "six"}]}',
            "items[0].choice",
            "items[0].choice must be one of one, two.",
        ),
        (
            '{"name": "a", "items": [{"number":1},{"number":1},{"number":1}]}',
            "items",
            "items must be a list of at most 2 items.",
        ),
        ("[]", "", "The body must be an object, not a list."),
        ("", "", "The body is not JSON: Input data was truncated."),
        ('{"name": "a"} x', "", None),
        ('{"name": "\\ud800"}', "", None),
        ('{"z": ' + "[" * 100_000, "", "The body is nested too deeply."),
        (b'{"name": "\xff"}', "", "The body is not UTF-8."),
    ],
)
def test_what_is_wrong_is_named(body: str | bytes, field: str, message: str | None) -> None:
    error = refusal(body)
    assert error.field == field
    assert message is None or error.message == message


def test_whole_numbers_may_come_as_floats() -> None:
    assert decode(Body, b'{"name": "a", "amount": 2, "items": [{"number": 3.0}]}') == Body("a", 2.0, [Item(3)])


def test_the_slow_path_refuses_what_the_fast_one_refuses() -> None:
    """A body that needs the slow path for one field is held to every other bound as well."""
    body = b'{"name": "abcdef", "items": [{"number": 3.0}]}'
    with pytest.raises(WireError, match=r"name must be text of at most 5 characters\."):
        decode(Body, body)
    with pytest.raises(WireError, match="not JSON"):
        decode(Body, b'{"name": "a", "items": [{"number": 3.0}], }')


@given(body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(body=b'{"name": "a", "items": [{"number": 3.0}], "z": ' + b"[" * 50_000)
@example(body=b'{"name": "a", "items": [{"number": ' + b"9" * 5_000 + b"}]}")
def test_any_bytes_are_taken_or_refused_with_a_sentence(body: bytes) -> None:
    found = outcome(body)
    assert isinstance(found, Body) or found.endswith(".")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(name=json_values, amount=json_values, items=json_values)
def test_any_json_is_taken_or_refused_with_a_sentence(name: object, amount: object, items: object) -> None:
    found = outcome(json.dumps({"name": name, "amount": amount, "items": items}).encode())
    if isinstance(found, str):
        assert found.endswith(".")
    else:
        assert 1 <= len(found.name) <= 5
        assert 0 < found.amount < 9
        assert all(isinstance(item.number, int) and 0 <= item.number <= 10 for item in found.items)


def test_a_complaint_that_is_new_to_us_is_passed_on() -> None:
    assert complaint("Something odd") == "is wrong: something odd"
    assert complaint("Expected `str` matching regex '^a$'") == "must be text without control characters"
