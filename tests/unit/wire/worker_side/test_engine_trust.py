from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nullworker.wire import grant
from nullworker.wire.worker_clock import WorkerClock
from nullworker.wire.worker_side.engine_trust import EngineTrust, NotAuthenticError, same_url
from nullworker.wire.worker_side.messages import Identity
from tests.kit.engine_key import EngineKey, engine_key

URL = "http://127.0.0.1:40123"
ME = Identity(17, "a-worker-token-of-at-least-thirty-two-characters", URL)
NOW_S = 1_800_000_000.0
NOT_THE_ENGINES = "signature is not the engine's"


def trust(features: str | None = None) -> EngineTrust:
    made = EngineTrust(ME, WorkerClock(unix_s=lambda: NOW_S))
    made.learn(engine_key().pem, features)
    return made


def pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def issue(**changes: Any) -> str:
    said: dict[str, Any] = {
        "token": ME.token, "worker_id": 17, "url": URL, "request_idx": 5, "expires_in_s": 60, "now_s": NOW_S,
    }  # fmt: skip
    return grant.issue(**{**said, **changes})


class TestSignatures:
    def test_what_the_engine_signed_is_good_again_and_again(self) -> None:
        checks = trust()
        for _ in range(3):
            checks.check_signature(URL, engine_key().sign(URL))

    def test_another_keys_is_refused_even_after_a_good_one(self) -> None:
        checks = trust()
        checks.check_signature(URL, engine_key().sign(URL))
        with pytest.raises(NotAuthenticError, match=NOT_THE_ENGINES):
            checks.check_signature(URL, engine_key(1).sign(URL))

    def test_that_of_another_url_is_refused(self) -> None:
        with pytest.raises(NotAuthenticError, match=NOT_THE_ENGINES):
            trust().check_signature(URL, engine_key().sign("http://127.0.0.1:50000"))

    @pytest.mark.parametrize("signature", ["", "!!!", "x", "=", "c2ln", "c2ln\n", "ä"])
    def test_what_is_no_signature_is_refused(self, signature: str) -> None:
        with pytest.raises(NotAuthenticError, match=NOT_THE_ENGINES):
            trust().check_signature(URL, signature)

    def test_without_the_engines_key_nothing_is_good(self) -> None:
        with pytest.raises(NotAuthenticError, match="no key of its engine yet"):
            EngineTrust(ME).check_signature(URL, engine_key().sign(URL))

    def test_after_a_new_key_the_old_ones_signature_is_refused(self) -> None:
        checks = trust()
        old = engine_key().sign(URL)
        checks.check_signature(URL, old)
        checks.learn(engine_key(1).pem, None)
        with pytest.raises(NotAuthenticError, match=NOT_THE_ENGINES):
            checks.check_signature(URL, old)
        checks.check_signature(URL, engine_key(1).sign(URL))


class TestUrl:
    def test_another_workers_is_refused(self) -> None:
        trust().check_url(URL + "/")
        with pytest.raises(NotAuthenticError, match=r"auth_data\.url is not this worker's"):
            trust().check_url("http://127.0.0.1:50000")

    @pytest.mark.parametrize(
        ("one", "other", "same"),
        [
            (URL, URL, True),
            (URL, URL + "/", True),
            ("http://Host:1", "http://host:1/", True),
            (URL, URL.replace("http", "https"), False),
            (URL, "http://127.0.0.1:3001", False),
            (URL, URL + "/x", False),
            (URL, URL + "?x", False),
            (URL, "http://[::1", False),
            (URL, "http://127.0.0.1:x", False),
        ],
    )
    def test_urls_name_the_same_place_or_not(self, one: str, other: str, same: bool) -> None:
        assert same_url(one, other) is same


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"no key",
        EngineKey(1024).pem,
        pem(ed25519.Ed25519PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP256R1())),
    ],
)
def test_what_is_no_strong_rsa_key_is_none(bad: bytes) -> None:
    made = EngineTrust(ME)
    with pytest.raises(ValueError):  # noqa: PT011 - the library says it in its own words
        made.learn(bad, None)
    assert not made.has_key


class TestGrants:
    """An engine that issues grants wants them checked."""

    def test_a_good_one_is_read(self) -> None:
        assert trust("grants").check_grant(issue(), 5).request_idx == 5

    @pytest.mark.parametrize(
        "changes",
        [
            {"now_s": NOW_S - 3600},
            {"request_idx": 6},
            {"worker_id": 18},
            {"url": "http://127.0.0.1:50000"},
            {"token": "another-token-which-is-long-enough-for-a-key"},
        ],
    )
    def test_one_for_something_else_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(NotAuthenticError, match="grant"):
            trust("grants").check_grant(issue(**changes), 5)

    @pytest.mark.parametrize("given", [None, 7, "x.y.z"])
    def test_what_is_none_is_refused(self, given: object) -> None:
        with pytest.raises(NotAuthenticError, match="grant"):
            trust("grants").check_grant(given, 5)

    def test_vasts_engine_issues_none_and_takes_no_prompt_reports(self) -> None:
        assert not trust(None).issues_grants
        assert not trust(None).takes_prompt_reports
        assert trust("prompt-reports, grants").takes_prompt_reports

    def test_an_engine_that_once_issued_grants_is_held_to_it(self) -> None:
        checks = trust("grants")
        checks.learn(engine_key().pem, None)
        assert checks.issues_grants
