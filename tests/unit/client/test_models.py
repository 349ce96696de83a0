"""Records of reservations."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from nullworker.client.errors import RecordInvalidError
from nullworker.client.models import Session

FACTS = Session(
    endpoint="null-prod",
    session_id="abc",
    url="http://127.0.0.1:1",
    auth_data={"url": "http://127.0.0.1:1", "signature": "c2ln", "request_idx": 3},
    lifetime_s=60.0,
    opened_at=datetime(2026, 5, 12, 12, 18, 33, tzinfo=timezone.utc),
)


def test_a_record_survives_json() -> None:
    """What comes back is what was written."""
    assert Session.from_record(json.loads(json.dumps(FACTS.to_record()))) == FACTS


@pytest.mark.parametrize("name", [name for name in FACTS.to_record() if name != "version"])
def test_a_record_that_lacks_something_is_refused_by_its_name(name: str) -> None:
    """Nothing is made up."""
    record = FACTS.to_record()
    del record[name]
    with pytest.raises(RecordInvalidError, match=name):
        Session.from_record(record)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2),
        ("url", 5),
        ("session_id", ""),
        ("auth_data", "secret"),
        ("lifetime_s", "60"),
        ("lifetime_s", True),
        ("lifetime_s", 0),
        ("lifetime_s", float("nan")),
        ("opened_at", "yesterday"),
    ],
)
def test_a_record_with_something_else_in_it_is_refused_by_its_name(name: str, value: object) -> None:
    """Bad input is said to be bad."""
    with pytest.raises(RecordInvalidError, match=name):
        Session.from_record({**FACTS.to_record(), name: value})


@pytest.mark.parametrize("record", [None, [], "text", {}])
def test_what_is_no_record_at_all_is_refused(record: Any) -> None:
    """A file may hold anything."""
    with pytest.raises(RecordInvalidError):
        Session.from_record(record)
