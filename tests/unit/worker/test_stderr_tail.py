"""What a supervisor reports; of the last line that a command wrote: one line, short, and nothing secret in it."""

from __future__ import annotations

import os

import pytest

from nullworker.worker.stderr_tail import CHARACTERS_MAX, Report, ReportPipe, last_line
from nullworker.worker.supervisor_main import STDERR_TAIL_BYTES

ENV = {
    "API_KEY": "k-12345",
    "DB_PASSWORD": "correct horse",
    "LONGER_TOKEN": "k-12345-and-more",
    "BROKER_URL": "redis://:pa%3A55@broker:6379/0",
    "MODEL": "llama-7b",
    "PIN_TOKEN": "1234",
    "SSH_AUTH_SOCK": "/run/agent.sock",
    "WRONG_URL": "http://[broken",
}


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("", ""),
        (" \n\r\n", ""),
        ("first\nlast\n\n", "last"),
        ("  a\tb\x1b[31m c\x00 \n", "a b [31m c"),
        ("100 %\r 50 %\r", "50 %"),
        ("refused k-12345\n", "refused ***"),
        ("refused k-12345-and-more\n", "refused ***"),
        ("wrong: correct  horse\n", "wrong: ***"),
        ("AUTH pa%3A55 or pa:55\n", "AUTH *** or ***"),
        ("no llama-7b for 1234 at /run/agent.sock\n", "no llama-7b for 1234 at /run/agent.sock"),
        ("GET https://me:se@cret@host/x?user=1&access_token=abc&b=2\n", "GET https://***@host/x?***"),
        ("Authorization: Bearer abc.def\n", "Authorization: ***"),
        (f"bad key {'ab' * 32}\n", "bad key ***"),
        ("AKIAIOSFODNN7EXAMPLE is refused\n", "*** is refused"),
        ("x y " * 100, ("x y " * 100)[: CHARACTERS_MAX - 1] + "…"),
    ],
)
def test_what_is_left_of_a_line(written: str, line: str) -> None:
    assert last_line(written.encode(), ENV) == line


def test_what_is_no_text_is_shown_as_such() -> None:
    assert last_line(b"caf\xe9 \xff\n", {}) == "caf\ufffd \ufffd"


def test_a_secret_that_was_cut_in_two_is_not_shown() -> None:
    """Of a very long line the end is known, and its first word may be the end of anything."""
    written = b"x" * (STDERR_TAIL_BYTES - 7) + b" is it\n"
    assert last_line(written, {}) == "is it"


class TestReport:
    def test_it_comes_through_the_pipe(self) -> None:
        pipe = ReportPipe()
        os.write(pipe.write_end, b'{"left": ["process 7 (x)"], "is_busy": false}\none\ntwo\n')
        assert pipe.read() == Report(("process 7 (x)",), is_busy=False, written=b"one\ntwo\n")
        pipe.close()

    def test_a_supervisor_that_was_killed_has_none(self) -> None:
        assert ReportPipe().read() is None
