import time
from typing import Any

import pytest
from vastai.serverless.server.lib.data_types import Session

from nullworker.worker.sessions import HeldSession, SessionTable

MAX_LIFETIME_S = 1_000.0
MAX_AGE_S = 5_000.0


class Clock:
    """Both clocks of the process, set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monotonic_s = 50.0
        self.unix_s = 1_800_000_000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.monotonic_s)
        monkeypatch.setattr(time, "time", lambda: self.unix_s)

    def advance(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.unix_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def session(lifetime: float = 60.0, clock: Clock | None = None, **other: Any) -> Any:
    return Session(
        **{
            "session_id": "s",
            "lifetime": lifetime,
            "auth_data": {"request_idx": 3},
            "expiration": (clock.unix_s if clock else 0.0) + lifetime,
            "on_close_route": None,
            "on_close_payload": None,
            "request_idx": 3,
            **other,
        }
    )


def opened(clock: Clock, lifetime: float = 60.0) -> tuple[SessionTable, HeldSession]:
    sessions = SessionTable(MAX_LIFETIME_S, MAX_AGE_S)
    sessions["s"] = session(lifetime, clock)
    held = sessions.held
    assert held is not None
    return sessions, held


def test_listeners_hear_of_opening_and_closing_at_once() -> None:
    sessions = SessionTable(MAX_LIFETIME_S, MAX_AGE_S)
    heard: list[tuple[str, int]] = []
    sessions.on_open.append(lambda session: heard.append(("open", session.request_idx)))
    sessions.on_close.append(lambda session: heard.append(("close", session.request_idx)))
    sessions["s"] = session()
    assert heard == [("open", 3)]
    sessions.pop("s", None)
    sessions.pop("s", None)
    assert heard == [("open", 3), ("close", 3)]
    assert sessions.held is None


def test_an_open_session_is_found_by_its_request(clock: Clock) -> None:
    sessions, held = opened(clock)
    assert sessions.of_request(3) is held
    assert sessions.of_request(4) is None


def test_a_lifetime_is_kept_within_its_bounds(clock: Clock) -> None:
    for lifetime, kept in ((0.001, 1.0), (60.0, 60.0), (1e308, MAX_LIFETIME_S)):
        _, held = opened(clock, lifetime)
        assert held.lifetime == kept
        assert held.expiration == pytest.approx(clock.unix_s + kept)


def test_extensions_do_not_add_up(clock: Clock) -> None:
    _, held = opened(clock)
    clock.advance(10)
    for _ in range(1_000):
        held.extend()
    assert held.expiration == pytest.approx(clock.unix_s + 60)


def test_an_extension_never_shortens(clock: Clock) -> None:
    _, held = opened(clock)
    held.expiration = clock.unix_s + 500
    held.extend()
    assert held.expiration == pytest.approx(clock.unix_s + 500)


def test_no_extension_reaches_past_the_greatest_age(clock: Clock) -> None:
    _, held = opened(clock)
    opened_at = clock.unix_s
    for _ in range(200):
        clock.advance(30)
        held.extend()
    assert held.expiration == pytest.approx(opened_at + MAX_AGE_S)
    assert held.expiration < clock.unix_s


@pytest.mark.promise("P14")
@pytest.mark.parametrize("jump_s", [-1e9, -1.0, 1.0, 3e8])
def test_a_clock_that_is_set_ends_no_reservation(clock: Clock, jump_s: float) -> None:
    _, held = opened(clock)
    clock.unix_s += jump_s
    assert held.expiration - clock.unix_s == pytest.approx(60)
    clock.advance(61)
    assert held.expiration < clock.unix_s


def test_the_creators_payload_is_kept_without_a_route() -> None:
    sessions = SessionTable(MAX_LIFETIME_S, MAX_AGE_S)
    with sessions.opening_with({"job": 5}):
        sessions["s"] = session()
    assert sessions["s"].on_close_payload == {"job": 5}
    sessions["t"] = session()
    assert sessions["t"].on_close_payload is None
