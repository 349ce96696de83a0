from __future__ import annotations

from nullworker.wire import paths


def test_no_two_paths_are_the_same() -> None:
    found = [value for name, value in vars(paths).items() if name.isupper() and value.startswith("/")]
    assert len(found) == len(set(found))


def test_the_client_finds_the_root_certificate_where_it_looks_for_it() -> None:
    """The path is the one that the SDK's class attribute names."""
    from vastai.serverless.client.client import Serverless

    assert Serverless.SSL_CERT_URL.endswith(paths.ROOT_CERTIFICATE)
