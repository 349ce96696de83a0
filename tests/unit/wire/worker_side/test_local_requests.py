from __future__ import annotations

import pytest

from nullworker.wire.worker_side.local_requests import host_of, is_from_web_page, is_loopback


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("203.0.113.9", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_and_nothing_else(host: str, *, local: bool) -> None:
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("127.0.0.1:3000", "127.0.0.1"),
        ("localhost", "localhost"),
        ("[::1]:3000", "::1"),
        ("[::1]", "::1"),
        ("[::1", "["),
        ("", ""),
    ],
)
def test_the_host_is_read_without_its_port(header: str, host: str) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("origin", "fetch_site", "is_page"),
    [
        (None, None, False),
        (None, "none", False),
        (None, "same-origin", True),
        (None, "cross-site", True),
        (None, "", True),
        ("http://evil.example", None, True),
        ("null", "none", True),
    ],
)
def test_a_web_page_gives_itself_away(origin: str | None, fetch_site: str | None, *, is_page: bool) -> None:
    assert is_from_web_page(origin, fetch_site) is is_page


def test_a_page_of_the_server_itself_may_be_allowed() -> None:
    assert not is_from_web_page(None, "same-origin", ("none", "same-origin"))
    assert is_from_web_page(None, "same-site", ("none", "same-origin"))
