from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nullworker.classic.envelope import Envelope
from nullworker.classic.settings import EngineLink
from nullworker.classic.signature import NotAuthenticError, SignatureChecker
from nullworker.wire import grant

URL = "http://127.0.0.1:40123"
LINK = EngineLink(("http://engine",), 17, "token-of-17-which-is-long-enough-for-a-key", URL)
NOW = 1_000_000.0


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(key: rsa.RSAPrivateKey, url: str) -> str:
    """As the wire has it, written out: four blanks, sorted keys."""
    message = f'{{\n    "url": "{url}"\n}}'.encode()
    return base64.b64encode(key.sign(message, padding.PKCS1v15(), SHA256())).decode()


def envelope(url: str, signature: str, **auth_data: Any) -> Envelope:
    return Envelope(request_idx=5, cost=100, url=url, signature=signature, payload={}, auth_data=auth_data)


def checker(key: rsa.RSAPrivateKey, features: str | None = None) -> SignatureChecker:
    made = SignatureChecker(LINK, lambda: NOW)
    made.learn(pem(key), features)
    return made


def test_what_the_engine_signed_is_let_in_again_and_again(key: rsa.RSAPrivateKey) -> None:
    checks = checker(key)
    for _ in range(3):
        checks.check(envelope(URL, sign(key, URL)))


def test_a_url_with_a_slash_at_its_end_is_the_same_worker(key: rsa.RSAPrivateKey) -> None:
    checker(key).check(envelope(URL + "/", sign(key, URL + "/")))


def test_a_signature_of_another_key_is_refused_even_after_a_good_one(key: rsa.RSAPrivateKey) -> None:
    checks = checker(key)
    checks.check(envelope(URL, sign(key, URL)))
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(NotAuthenticError, match="signature is not the engine's"):
        checks.check(envelope(URL, sign(other, URL)))


@pytest.mark.parametrize("signature", ["", "!!!", "c2ln", "c2ln\n", "ä"])
def test_what_is_no_signature_is_refused(signature: str, key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(NotAuthenticError, match="signature is not the engine's"):
        checker(key).check(envelope(URL, signature))


def test_another_workers_signature_is_refused(key: rsa.RSAPrivateKey) -> None:
    other = "http://127.0.0.1:50000"
    with pytest.raises(NotAuthenticError, match="another worker's url"):
        checker(key).check(envelope(other, sign(key, other)))


def test_without_the_engines_key_nothing_is_let_in(key: rsa.RSAPrivateKey) -> None:
    with pytest.raises(NotAuthenticError, match="no key of its engine yet"):
        SignatureChecker(LINK, lambda: NOW).check(envelope(URL, sign(key, URL)))


@pytest.mark.parametrize("bad", [b"", b"no key", pem(ed25519.Ed25519PrivateKey.generate())])
def test_an_answer_without_an_rsa_key_is_no_key(bad: bytes) -> None:
    made = SignatureChecker(LINK, lambda: NOW)
    with pytest.raises(ValueError):  # noqa: PT011 - the library says it in its own words
        made.learn(bad, None)
    assert not made.has_key


class TestGrants:
    """An engine that gives grants wants them seen."""

    def issue(self, **changes: Any) -> str:
        what: dict[str, Any] = {
            "token": LINK.master_token,
            "worker_id": 17,
            "url": URL,
            "request_idx": 5,
            "expires_in_s": 60,
            "now_s": NOW,
        }
        return grant.issue(**{**what, **changes})

    def test_a_good_one_is_let_in(self, key: rsa.RSAPrivateKey) -> None:
        checker(key, "grants").check(envelope(URL, sign(key, URL), grant=self.issue()))

    @pytest.mark.parametrize(
        "changes",
        [
            {"now_s": NOW - 3600},
            {"request_idx": 6},
            {"worker_id": 18},
            {"token": "another-token-which-is-long-enough-for-a-key"},
        ],
    )
    def test_one_for_something_else_is_refused(self, changes: dict[str, Any], key: rsa.RSAPrivateKey) -> None:
        with pytest.raises(NotAuthenticError, match="grant"):
            checker(key, "grants").check(envelope(URL, sign(key, URL), grant=self.issue(**changes)))

    @pytest.mark.parametrize("given", [{}, {"grant": None}, {"grant": "x.y.z"}])
    def test_none_is_refused(self, given: dict[str, Any], key: rsa.RSAPrivateKey) -> None:
        with pytest.raises(NotAuthenticError, match="grant"):
            checker(key, "grants").check(envelope(URL, sign(key, URL), **given))

    def test_vasts_engine_gives_none_and_none_is_asked_for(self, key: rsa.RSAPrivateKey) -> None:
        checker(key, None).check(envelope(URL, sign(key, URL), grant="whatever"))
