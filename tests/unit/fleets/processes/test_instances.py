"""What went wrong with the machine is told in words that say what to do."""

from __future__ import annotations

import errno
import os

import pytest

from nullworker.fleets.processes.instances import in_words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full (/state): free some space"),
        (errno.EDQUOT, "the disk is full (/state): free some space"),
        (errno.EMFILE, "too many files are open: raise the limit (ulimit -n)"),
        (
            errno.EAGAIN,
            "the machine has no room for another process: raise the limit (ulimit -u), or have fewer workers",
        ),
        (
            errno.ENOMEM,
            "the machine has no room for another process: raise the limit (ulimit -u), or have fewer workers",
        ),
        (errno.ENOSYS, "it needs Linux 5.3 or later"),
        (errno.EACCES, "Permission denied (/state)"),
    ],
)
def test_an_error_of_the_machine_says_what_to_do(number: int, words: str) -> None:
    assert in_words(OSError(number, os.strerror(number), "/state")) == words


def test_an_error_without_number_or_name_is_told_as_it_is() -> None:
    assert in_words(OSError("odd")) == "odd"
