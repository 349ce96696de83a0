from __future__ import annotations

import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullworker.wire.secret import Secret


@given(st.text(min_size=4).filter(lambda text: "***" not in text))
def test_no_way_of_printing_shows_it(text: str) -> None:
    secret = Secret(text)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>20}", "%s" % secret, f"{secret!r}", repr([secret])]  # noqa: UP031 - the old way is one of them
    assert all("***" in each and text not in each for each in shown)
    assert secret.reveal() == text


def test_an_exception_that_carries_it_does_not_show_it() -> None:
    error = ValueError(Secret("hidden" + "-value"))
    assert "hidden-value" not in "".join(traceback.format_exception(error))


def test_it_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret("hidden"))
