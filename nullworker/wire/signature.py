"""What an engine signs of a worker's URL: RSA PKCS#1 v1.5 with SHA-256 over these very bytes, in base64.

It depends on the URL alone and the scheme is deterministic, so that one signing (and one verifying) per worker is
enough. It proves that the engine knew the URL, once; the ``grant`` is what binds a reservation and a time to it.
"""

from __future__ import annotations

import json


def signed_message(url: str) -> bytes:
    """The bytes that the signature of ``url`` is made over."""
    return json.dumps({"url": url}, indent=4, sort_keys=True).encode("ascii")
