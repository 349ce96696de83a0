import base64

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nullworker.wire.signature import signed_message


def test_the_message_is_that_of_the_protocol() -> None:
    assert signed_message("http://a:1") == b'{\n    "url": "http://a:1"\n}'


def test_text_outside_ascii_is_escaped() -> None:
    assert signed_message("http://ü") == b'{\n    "url": "http://\\u00fc"\n}'


def test_a_signature_is_good_for_its_url_alone() -> None:
    key = rsa.generate_private_key(65_537, 2048)
    signature = base64.b64decode(base64.b64encode(key.sign(signed_message("a"), padding.PKCS1v15(), hashes.SHA256())))
    key.public_key().verify(signature, signed_message("a"), padding.PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        key.public_key().verify(signature, signed_message("b"), padding.PKCS1v15(), hashes.SHA256())
