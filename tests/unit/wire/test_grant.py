import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullworker.wire.grant import ALGORITHM, AUDIENCE, LEEWAY_S, GrantError, issue, verify

TOKEN = "a-worker-token-of-at-least-thirty-two-characters"
NOW_S = 1_800_000_000.5
URL = "http://127.0.0.1:3000"


def check(grant: str, **other: Any) -> Any:
    shown: dict[str, Any] = {"token": TOKEN, "worker_id": 7, "url": URL, "request_idx": 3, "now_s": NOW_S, **other}
    return verify(grant, shown.pop("token"), **shown)


def issued(**other: Any) -> str:
    """A grant by hand, with some of its claims as they should not be."""
    claims = {"sub": "7", "url": URL, "request_idx": 3, "exp": NOW_S + 60, "jti": "j", "aud": AUDIENCE, **other}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, TOKEN, algorithm=ALGORITHM)


def test_a_grant_says_what_it_was_issued_for() -> None:
    grant = check(issue(TOKEN, 7, URL, 3, 60.0, NOW_S))
    assert (grant.worker_id, grant.url, grant.request_idx) == (7, URL, 3)
    assert grant.expires_at_s == NOW_S + 60


def test_each_grant_has_a_name_of_its_own() -> None:
    one, other = (check(issue(TOKEN, 7, URL, 3, 60.0, NOW_S)).jti for _ in range(2))
    assert one != other


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"worker_id": 8}, "another worker"),
        ({"url": "http://127.0.0.1:3001"}, "another URL"),
        ({"request_idx": 4}, "another request_idx"),
        ({"token": TOKEN + "x"}, "not one that this worker's engine made"),
        ({"token": ""}, "no MASTER_TOKEN"),
        ({"now_s": NOW_S + 60 + LEEWAY_S + 1}, "expired"),
    ],
)
def test_a_grant_is_good_for_nothing_else(other: dict[str, Any], why: str) -> None:
    with pytest.raises(GrantError, match=why):
        check(issue(TOKEN, 7, URL, 3, 60.0, NOW_S), **other)


def test_clocks_may_differ_by_the_leeway() -> None:
    check(issue(TOKEN, 7, URL, 3, 60.0, NOW_S), now_s=NOW_S + 60 + LEEWAY_S)
    check(issue(TOKEN, 7, URL, 3, 60.0, NOW_S), now_s=NOW_S - 1_000)


@pytest.mark.parametrize("claim", ["sub", "url", "request_idx", "exp", "jti", "aud"])
def test_a_grant_without_one_of_its_claims_is_none(claim: str) -> None:
    with pytest.raises(GrantError):
        check(issued(**{claim: None}))


@pytest.mark.parametrize(
    "other",
    [{"aud": "someone-else"}, {"exp": "later"}, {"exp": float("nan")}, {"jti": 5}, {"sub": 7}, {"request_idx": "3"}],
)
def test_claims_of_the_wrong_kind_are_refused(other: dict[str, Any]) -> None:
    with pytest.raises(GrantError):
        check(issued(**other))


def test_no_other_algorithm_is_taken() -> None:
    claims = {"sub": "7", "url": URL, "request_idx": 3, "exp": NOW_S + 60, "jti": "j", "aud": AUDIENCE}
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    for forged in ((head + b"." + body + b".").decode(), jwt.encode(claims, TOKEN * 2, algorithm="HS512")):
        with pytest.raises(GrantError):
            check(forged)


@given(st.text() | st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,40}"))
def test_any_text_is_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(GrantError):
        check(text)


def test_without_a_token_nothing_is_issued() -> None:
    with pytest.raises(ValueError, match="empty"):
        issue("", 7, URL, 3, 60.0, NOW_S)
