from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nullworker.engine.auth.signing import KEY_FILE, Signer
from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.open(tmp_path_factory.mktemp("state"))


def backend_accepts(public_pem: str, url: str, signature: str) -> bool:
    """The check of vastai's own worker, its real method on its real class, given nothing but the public key."""
    from Crypto.PublicKey import RSA
    from vastai.serverless.server.lib.backend import Backend
    from vastai.serverless.server.lib.data_types import AuthData

    backend: Any = object.__new__(Backend)
    backend.unsecured = False
    backend._pubkey = RSA.import_key(public_pem)
    auth = AuthData(cost="100", endpoint="e", reqnum=1, request_idx=1, signature=signature, url=url)
    return bool(backend._Backend__check_signature(auth))


def test_the_real_worker_accepts_the_signature_of_its_url_and_of_no_other(signer: Signer) -> None:
    signature = signer.sign_url("https://10.0.0.1:3000")
    assert backend_accepts(signer.public_pem, "https://10.0.0.1:3000", signature)
    assert not backend_accepts(signer.public_pem, "https://10.0.0.2:3000", signature)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(url=st.text(max_size=80))
def test_any_url_is_signed_over_the_documented_bytes(signer: Signer, url: str) -> None:
    """Verified with pycryptodome, as the framework does, over the message as the framework builds it."""
    from Crypto.Hash import SHA256
    from Crypto.PublicKey import RSA
    from Crypto.Signature import pkcs1_15

    message = json.dumps({"url": url}, indent=4, sort_keys=True).encode()
    verifier = pkcs1_15.new(RSA.import_key(signer.public_pem))
    verifier.verify(SHA256.new(message), base64.b64decode(signer.sign_url(url)))


def test_the_same_url_has_the_same_signature_also_after_a_restart(tmp_path: Path) -> None:
    first = Signer.open(tmp_path).sign_url("http://h:1")
    again = Signer.open(tmp_path)
    assert again.sign_url("http://h:1") == again.sign_url("http://h:1") == first


def test_two_engines_sign_differently(signer: Signer, tmp_path: Path) -> None:
    other = Signer.open(tmp_path)
    assert not backend_accepts(other.public_pem, "http://h:1", signer.sign_url("http://h:1"))


@pytest.mark.parametrize("content", ["nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / KEY_FILE).touch(mode=0o600)
    (tmp_path / KEY_FILE).write_text(content)
    with pytest.raises(StateError, match="holds no usable RSA key"):
        Signer.open(tmp_path)


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import rsa

    short = rsa.generate_private_key(65_537, 1024)
    (tmp_path / KEY_FILE).touch(mode=0o600)
    (tmp_path / KEY_FILE).write_bytes(short.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    with pytest.raises(StateError, match="holds no usable RSA key"):
        Signer.open(tmp_path)
