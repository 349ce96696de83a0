"""What lets a call pass: a key whose role is enough, a cookie; and what a page of another site may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp.test_utils import make_mocked_request

from nullworker.engine.auth import sign_in as module
from nullworker.engine.auth.account import BY_COOKIE, HOLDER, AccountAuth
from nullworker.engine.auth.keys import ACCOUNT, Holder, Keys, Role
from nullworker.engine.auth.sign_in import LASTS_S, SignIn
from nullworker.wire.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    from aiohttp import web

KEYS = Keys("account-key-1", b"s" * 32)
NAMED, NAMED_KEY = KEYS.ring.create("reader", Role.READ)
READER = Holder('key "reader"', Role.READ, NAMED.id)
OWN = {"Host": "engine:1", "Origin": "http://engine:1"}


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sign_in(clock: Clock) -> SignIn:
    return SignIn(KEYS, clock)


def request(sign_in: SignIn, cookie: str, method: str = "GET", **headers: str) -> web.Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request(
        method, "/", headers={"Host": "engine:1", "Cookie": f"{sign_in.cookie}={cookie}", **named}
    )


def test_a_cookie_is_good_for_its_role_and_its_time(sign_in: SignIn, clock: Clock) -> None:
    cookie = sign_in.new(READER)
    found = sign_in.read(request(sign_in, cookie))
    assert found is not None
    assert (found.holder, found.until_s) == (READER, clock.now + LASTS_S)
    clock.now += LASTS_S
    assert sign_in.read(request(sign_in, cookie)) is None


def test_nothing_else_is_a_cookie(sign_in: SignIn) -> None:
    good = sign_in.new(READER)
    forged = str(ACCOUNT.key_id) + good.removeprefix(str(READER.key_id))
    other = SignIn(Keys("account-key-2", b"s" * 32), lambda: 1_000_000.0).new(ACCOUNT)  # before the key was changed
    for value in ("", "x", "a.b.c.d", "1.2.3.d", forged, good[:-1], other, "account-key-1", good + "0"):
        assert sign_in.read(request(sign_in, value)) is None


def test_a_cookie_that_was_signed_out_is_none_and_others_stay(sign_in: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIGNED_OUT_MAX", 5)
    first, second = sign_in.new(ACCOUNT), sign_in.new(ACCOUNT)
    sign_in.end(request(sign_in, first))
    assert sign_in.read(request(sign_in, first)) is None
    assert sign_in.read(request(sign_in, second)) is not None
    for number in range(9):
        sign_in.end(request(sign_in, f"x{number}"))
    assert len(sign_in._signed_out) == 5


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Sec-Fetch-Site": "cross-site"}),
        ("GET", {"Sec-Fetch-Site": "same-site"}),
        ("GET", {"Origin": "http://evil"}),
        ("PUT", {"Origin": "http://evil"}),
        ("PUT", {"Origin": "http://engine:2"}),  # another port of this host, which browsers send the cookie to
        ("POST", {"Origin": "null"}),
        ("POST", {}),
    ],
)
def test_what_a_page_of_another_site_has_a_browser_send_is_refused(
    sign_in: SignIn, method: str, headers: dict[str, str]
) -> None:
    with pytest.raises(ForbiddenError):
        sign_in.read(request(sign_in, sign_in.new(ACCOUNT), method, **headers))


@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("GET", {"Sec-Fetch-Site": "none"}), ("PUT", OWN), ("POST", {"Sec-Fetch-Site": "same-origin"})],
)
def test_the_engine_s_own_page_may(sign_in: SignIn, method: str, headers: dict[str, str]) -> None:
    assert sign_in.read(request(sign_in, sign_in.new(ACCOUNT), method, **headers)) is not None


def bearing(key: str) -> web.Request:
    return make_mocked_request("GET", "/", headers={"Authorization": f"Bearer {key}"})


def test_a_key_to_read_with_reads_and_changes_nothing(sign_in: SignIn) -> None:
    auth = AccountAuth(KEYS, sign_in)
    key = NAMED_KEY.reveal()
    assert auth.check_reader(bearing(key)) == READER
    with pytest.raises(ForbiddenError, match='The key "reader" sees, and changes nothing'):
        auth.check(bearing(key), None)
    with pytest.raises(ForbiddenError):
        auth.check(request(sign_in, sign_in.new(READER)), None, Role.OPERATE)


def test_a_cookie_ends_with_its_key(sign_in: SignIn) -> None:
    named, _ = KEYS.ring.create("short", Role.ADMIN)
    holder = KEYS.holder_of(named.id)
    assert holder is not None
    cookie = sign_in.new(holder)
    assert sign_in.read(request(sign_in, cookie)) is not None
    KEYS.ring.revoke(named.id)
    assert sign_in.read(request(sign_in, cookie)) is None


def test_a_request_tells_by_what_it_passed(sign_in: SignIn) -> None:
    auth = AccountAuth(KEYS, sign_in)
    by_key, by_cookie = bearing("account-key-1"), request(sign_in, sign_in.new(ACCOUNT))
    auth.check(by_key, None)
    auth.check(by_cookie, None)
    assert (by_key[HOLDER], by_key[BY_COOKIE]) == (ACCOUNT, False)
    assert (by_cookie[HOLDER], by_cookie[BY_COOKIE]) == (ACCOUNT, True)
    for refused in (bearing("wrong"), make_mocked_request("GET", "/")):
        with pytest.raises(UnauthorizedError):
            auth.check(refused, None)


def test_a_wrong_key_is_not_made_good_by_a_cookie(sign_in: SignIn) -> None:
    with pytest.raises(UnauthorizedError):
        AccountAuth(KEYS, sign_in).check(request(sign_in, sign_in.new(ACCOUNT), Authorization="Bearer wrong"), None)


def test_behind_https_the_cookie_goes_by_https_alone(clock: Clock) -> None:
    from aiohttp import web as aiohttp_web

    for is_secure in (True, False):
        answer = aiohttp_web.Response()
        sign_in = SignIn(KEYS, clock, is_secure=is_secure)
        sign_in.set(answer, sign_in.new(ACCOUNT))
        morsel = answer.cookies[sign_in.cookie]
        assert bool(morsel["secure"]) == is_secure
        assert morsel["httponly"]
        assert morsel["samesite"] == "Strict"
