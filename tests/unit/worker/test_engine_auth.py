import base64
import functools
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from nullworker.wire import grant
from nullworker.wire.headers import FEATURES
from nullworker.wire.signature import signed_message
from nullworker.worker.engine_auth import EngineAuth, GrantChecks, UnauthorizedError, same_url
from nullworker.worker.messages import Auth

URL = "http://127.0.0.1:3000"
TOKEN = "a-worker-token-of-at-least-thirty-two-characters"
NOW_S = 1_800_000_000.0


@functools.cache
def key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048 if number else 1024)


def auth(private: rsa.RSAPrivateKey | None = None, url: str = URL, **other: Any) -> Auth:
    signature = other.pop("signature", None)
    if signature is None:
        assert private is not None
        signature = base64.b64encode(private.sign(signed_message(url), padding.PKCS1v15(), hashes.SHA256())).decode()
    return Auth(
        data={}, url=url, signature=signature, request_idx=other.pop("request_idx", 3), grant=other.pop("grant", None)
    )


class Engine:
    """Serves a public key, and says what it takes."""

    def __init__(self) -> None:
        self.key: Any = key(1)
        self.says: str | None = "prompt-reports, grants"
        self.asked = 0
        self.url = ""

    async def pubkey(self, _request: web.Request) -> web.Response:
        self.asked += 1
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = self.key.public_key().public_bytes(serialization.Encoding.PEM, form)
        return web.Response(body=pem, headers={FEATURES: self.says} if self.says else {})


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    stub, app = Engine(), web.Application()
    app.router.add_get("/pubkey/", stub.pubkey)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield stub
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_first_address_that_answers_is_the_engine(engine: Engine, http: aiohttp.ClientSession) -> None:
    engine_auth = EngineAuth(http, ["http://127.0.0.1:1", engine.url])
    await engine_auth.load()
    assert (engine_auth.addr, engine_auth.takes_prompt_reports, engine_auth.gives_grants) == (engine.url, True, True)


async def test_vasts_own_engine_takes_and_gives_nothing_more(engine: Engine, http: aiohttp.ClientSession) -> None:
    engine.says = None
    engine_auth = EngineAuth(http, [engine.url])
    await engine_auth.load()
    assert (engine_auth.takes_prompt_reports, engine_auth.gives_grants) == (False, False)


async def test_a_signature_is_the_engines_or_refused(engine: Engine, http: aiohttp.ClientSession) -> None:
    engine_auth = EngineAuth(http, [engine.url])
    await engine_auth.load()
    for _ in range(2):  # the second time from memory
        await engine_auth.check_signature(auth(key(1)))
    wrong = [auth(key(2)), auth(signature="x"), auth(signature="c2ln"), auth(signature="ü"), auth(signature="=")]
    wrong.append(auth(url="http://other", signature=auth(key(1)).signature))
    for each in wrong:
        with pytest.raises(UnauthorizedError, match="signature"):
            await engine_auth.check_signature(each)


async def test_bad_signatures_do_not_become_requests_to_the_engine(engine: Engine, http: aiohttp.ClientSession) -> None:
    engine_auth = EngineAuth(http, [engine.url])
    await engine_auth.load()
    for _ in range(50):
        with pytest.raises(UnauthorizedError):
            await engine_auth.check_signature(auth(signature="c2ln"))
    assert engine.asked <= 2


async def test_a_new_key_is_fetched_when_a_signature_does_not_fit(
    engine: Engine, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nullworker.worker.engine_auth._REFRESH_EVERY_S", 0.0)
    engine_auth = EngineAuth(http, [engine.url])
    await engine_auth.load()
    engine.key = key(2)
    await engine_auth.check_signature(auth(key(2)))
    with pytest.raises(UnauthorizedError):
        await engine_auth.check_signature(auth(key(1)))


async def test_an_engine_that_once_gave_grants_is_held_to_it(
    engine: Engine, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nullworker.worker.engine_auth._REFRESH_EVERY_S", 0.0)
    engine_auth = EngineAuth(http, [engine.url])
    await engine_auth.load()
    engine.says, engine.key = None, key(2)
    await engine_auth.check_signature(auth(key(2)))
    assert engine_auth.gives_grants


@pytest.mark.parametrize("weak", [key(0), ec.generate_private_key(ec.SECP256R1())])
async def test_a_key_that_is_weak_or_of_another_kind_is_none(
    engine: Engine, http: aiohttp.ClientSession, weak: Any
) -> None:
    engine.key = weak
    engine_auth = EngineAuth(http, [engine.url])
    with pytest.raises(UnauthorizedError):
        await engine_auth.check_signature(auth(key(1)))
    assert not engine_auth.loaded


def issued(request_idx: int = 3, expires_in_s: float = 60.0) -> str:
    return grant.issue(TOKEN, 7, URL, request_idx, expires_in_s, NOW_S)


def test_a_session_needs_a_grant_of_its_own_request() -> None:
    grants = GrantChecks(TOKEN, 7, URL)
    with pytest.raises(UnauthorizedError, match="missing"):
        grants.check(auth(signature="x"), NOW_S)
    with pytest.raises(UnauthorizedError, match="another request_idx"):
        grants.check(auth(signature="x", grant=issued(4)), NOW_S)
    assert grants.check(auth(signature="x", grant=issued()), NOW_S).request_idx == 3


def test_the_session_that_a_grant_opened_is_remembered_until_the_grant_is_worthless() -> None:
    grants = GrantChecks(TOKEN, 7, URL)
    first = grants.check(auth(signature="x", grant=issued()), NOW_S)
    assert grants.session_of(first) is None
    grants.opened(first, "s", NOW_S)
    assert grants.session_of(first) == "s"
    later = NOW_S + 60 + grant.LEEWAY_S + 1
    second = grant.Grant(7, URL, 4, later + 60, "another")
    grants.opened(second, "t", later)
    assert grants.session_of(first) is None
    assert grants.session_of(second) == "t"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (URL, URL, True),
        (URL, URL + "/", True),
        ("http://Host:1", "http://host:1/", True),
        (URL, "https://127.0.0.1:3000", False),
        (URL, "http://127.0.0.1:3001", False),
        (URL, URL + "/x", False),
        (URL, URL + "?x", False),
        (URL, "http://[::1", False),
        (URL, "http://127.0.0.1:x", False),
    ],
)
def test_urls_are_the_same_place_or_not(one: str, other: str, same: bool) -> None:
    assert same_url(one, other) is same
