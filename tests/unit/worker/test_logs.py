import logging

import pytest
from aiohttp.http_exceptions import BadHttpMessage
from hypothesis import given
from hypothesis import strategies as st

from nullworker.wire.redaction import redact
from nullworker.worker import logs

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+/"
SECRET = st.text(ALPHABET, min_size=12, max_size=60).map(lambda text: f"S3cr3t{text}")  # in no ordinary line


@given(SECRET)
def test_no_secret_is_in_a_line(secret: str) -> None:
    for line in (
        f'127.0.0.1 "POST /session/create?api_key={secret} HTTP/1.1" 201',
        f'{{"mtoken": "{secret}", "id": 5}}',
        f"{{'signature': '{secret}', 'grant': '{secret}'}}",
        f"Signature error: signature verification failed, sig:{secret}, message: x",
        f"Authorization: Bearer {secret}",
        f"mtoken: {secret}",
        f"api_key:{secret}",
    ):
        assert secret not in redact(line)


def test_the_rest_of_a_line_stays() -> None:
    line = '{"mtoken": "abc...", "id": 5, "url": "http://a"}'
    assert redact(line) == '{"mtoken": ***, "id": 5, "url": "http://a"}'
    assert redact("session opened for request 5, for 60 s") == "session opened for request 5, for 60 s"


def test_the_workers_token_is_nowhere_even_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    before = root.level
    try:
        logs.set_up("DEBUG", "the-token-itself")
        error = ValueError("wrong: the-token-itself")
        logging.getLogger("x").error("failed with %s", "the-token-itself", exc_info=error)
        root.handlers[0].flush()
    finally:
        root.setLevel(before)
    out = capfd.readouterr().err
    assert "ValueError: wrong: ***" in out
    assert "the-token-itself" not in out


def test_what_is_not_http_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the sentence nor what was sent; a fault of our own is told as ever."""
    level, server = logging.getLogger().level, logging.getLogger("aiohttp.server")
    try:
        logs.settle("INFO")
        server.error("Error handling request", exc_info=BadHttpMessage("Authorization : Bearer abc"))
        assert not caplog.records
        server.error("Error handling request", exc_info=ValueError("ours"))
        assert len(caplog.records) == 1
    finally:
        logging.getLogger().setLevel(level)
