"""A name on this machine belongs to one process at a time."""

from __future__ import annotations

import os

import pytest

from nullworker.dispatch.machine_claim import ClaimedError, claim


def test_a_name_is_one_claimants_until_it_is_let_go() -> None:
    name = f"test {os.getpid()}"
    first = claim(name)
    assert first is not None
    with pytest.raises(ClaimedError, match=str(os.getpid())):
        claim(name)
    other = claim(name + " other")
    assert other is not None
    first.close()
    again = claim(name)
    assert again is not None
    for each in (other, again):
        each.close()
