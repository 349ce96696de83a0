import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullworker.core import limits
from nullworker.wire.grant import ALGORITHM, AUDIENCE, CLOCK_LEEWAY_S, LEEWAY_S, GrantError, issue, verify
from nullworker.wire.worker_clock import WorkerClock, WorkerTime

TOKEN = "a-worker-token-of-at-least-thirty-two-characters"
NOW_S = 1_800_000_000.5
URL = "http://127.0.0.1:3000"


def check(grant: str, *, now_s: float = NOW_S, **other: Any) -> Any:
    clock = WorkerClock(unix_s=lambda: now_s)
    shown: dict[str, Any] = {"token": TOKEN, "worker_id": 7, "url": URL, "request_idx": 3, "clock": clock, **other}
    return verify(grant, shown.pop("token"), **shown)


def issued(**other: Any) -> str:
    """A grant by hand, with some of its claims as they should not be."""
    claims = {"sub": "7", "url": URL, "request_idx": 3, "exp": NOW_S + 60, "jti": "j", "aud": AUDIENCE, **other}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, TOKEN, algorithm=ALGORITHM)


def test_a_grant_says_what_it_was_issued_for() -> None:
    grant = check(issue(TOKEN, 7, URL, 3, 60.0, NOW_S))
    assert (grant.worker_id, grant.url, grant.request_idx) == (7, URL, 3)
    assert grant.good_for_s == 60 + LEEWAY_S


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


class TestByTheWorkersClock:
    """Where the engine knows what the worker's own clock shows, no wall clock matters."""

    def setup_method(self) -> None:
        self.steady_s = 500.0
        self.clock = WorkerClock(lambda: self.steady_s, lambda: NOW_S)

    def issued(self, *, engine_unix_s: float = NOW_S, worker_now: WorkerTime | None = None) -> str:
        return issue(TOKEN, 7, URL, 3, 15.0, engine_unix_s, worker_now or self.clock.now())

    @pytest.mark.parametrize("ahead_s", [-172_800.0, -3_600.0, -46.0, 46.0, 3_600.0, 172_800.0])
    def test_a_wall_clock_that_is_wrong_matters_to_no_grant(self, ahead_s: float) -> None:
        grant = self.issued(engine_unix_s=NOW_S + ahead_s)
        assert check(grant, clock=self.clock).good_for_s == 15.0 + CLOCK_LEEWAY_S
        self.steady_s += 15.0 + CLOCK_LEEWAY_S + 0.1
        with pytest.raises(GrantError, match="expired"):
            check(grant, clock=self.clock)

    def test_a_grant_ends_for_its_worker_before_the_engine_forgets_it(self) -> None:
        assert CLOCK_LEEWAY_S < limits.GRANT_REPORT_S

    def test_a_grant_for_an_earlier_process_is_refused(self) -> None:
        with pytest.raises(GrantError, match="earlier process"):
            check(self.issued(worker_now=WorkerClock(lambda: 500.0).now()), clock=self.clock)

    @pytest.mark.parametrize(
        "other", [{"clock": 5}, {"clock_exp": "later"}, {"clock_exp": None}, {"clock_exp": float("nan")}]
    )
    def test_claims_of_the_wrong_kind_are_refused(self, other: dict[str, Any]) -> None:
        claims = {"clock": self.clock.now().clock, "clock_exp": 515.0, **other}
        with pytest.raises(GrantError):
            check(issued(**claims), clock=self.clock)


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
