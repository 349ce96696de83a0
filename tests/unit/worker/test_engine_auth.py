from collections.abc import AsyncIterator

import aiohttp
import pytest

from nullworker.wire.grant import Grant
from nullworker.wire.worker_side.engine_trust import EngineTrust, NotAuthenticError
from nullworker.wire.worker_side.messages import Identity
from nullworker.worker.engine_auth import EngineAuth, GrantedSessions
from nullworker.worker.messages import Auth
from tests.kit.engine_key import EngineKey, engine_key
from tests.kit.stub_engine import StubEngine

URL = "http://127.0.0.1:3000"
WEAK = EngineKey(1024)


def shown(key: EngineKey | None = None, *, url: str = URL, signature: str = "c2ln") -> Auth:
    return Auth(data={}, url=url, signature=key.sign(url) if key else signature, request_idx=3, grant=None)


@pytest.fixture
async def engine() -> AsyncIterator[StubEngine]:
    async with StubEngine().running() as engine:
        yield engine


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def auth_of(http: aiohttp.ClientSession, *addrs: str) -> EngineAuth:
    return EngineAuth(http, addrs, EngineTrust(Identity(7, "token", URL)))


async def test_the_first_address_that_answers_is_the_engine(engine: StubEngine, http: aiohttp.ClientSession) -> None:
    auth = auth_of(http, "http://127.0.0.1:1", engine.url)
    await auth.load()
    assert (auth.addr, auth.trust.takes_prompt_reports, auth.trust.issues_grants) == (engine.url, True, True)


async def test_vasts_own_engine_has_no_features(engine: StubEngine, http: aiohttp.ClientSession) -> None:
    engine.says = None
    auth = auth_of(http, engine.url)
    await auth.load()
    assert (auth.trust.takes_prompt_reports, auth.trust.issues_grants) == (False, False)


async def test_what_the_engine_did_not_sign_is_refused(engine: StubEngine, http: aiohttp.ClientSession) -> None:
    auth = auth_of(http, engine.url)
    await auth.load()
    await auth.check_signed(shown(engine.key))
    with pytest.raises(NotAuthenticError, match="signature"):
        await auth.check_signed(shown(engine_key(1)))
    with pytest.raises(NotAuthenticError, match="url"):
        await auth.check_signed(shown(engine.key, url="http://other"))


async def test_bad_signatures_do_not_become_requests_to_the_engine(
    engine: StubEngine, http: aiohttp.ClientSession
) -> None:
    auth = auth_of(http, engine.url)
    await auth.load()
    for _ in range(50):
        with pytest.raises(NotAuthenticError):
            await auth.check_signed(shown())
    assert engine.asked_for_key <= 2


async def test_a_new_key_is_fetched_when_a_signature_does_not_fit(
    engine: StubEngine, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nullworker.worker.engine_auth._REFRESH_EVERY_S", 0.0)
    auth = auth_of(http, engine.url)
    await auth.load()
    old, engine.key = engine.key, engine_key(1)
    await auth.check_signed(shown(engine.key))
    with pytest.raises(NotAuthenticError):
        await auth.check_signed(shown(old))


async def test_an_engine_whose_key_is_weak_gives_none(engine: StubEngine, http: aiohttp.ClientSession) -> None:
    engine.key = WEAK
    auth = auth_of(http, engine.url)
    with pytest.raises(NotAuthenticError):
        await auth.check_signed(shown(WEAK))
    assert not auth.trust.has_key


def test_the_session_that_a_grant_opened_is_remembered_until_the_grant_is_worthless() -> None:
    grants = GrantedSessions()
    first = Grant(7, URL, 3, 60.0, "first")
    assert grants.session_of(first) is None
    grants.opened(first, "s", 1000.0)
    assert grants.session_of(first) == "s"
    second = Grant(7, URL, 4, 60.0, "second")
    grants.opened(second, "t", 1060.0)
    assert grants.session_of(first) == "s"
    grants.opened(second, "t", 1060.1)
    assert grants.session_of(first) is None
    assert grants.session_of(second) == "t"
