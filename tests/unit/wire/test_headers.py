import math

import pytest

from nullworker.wire.headers import GRANTS, PROMPT_REPORTS, features, read_hold_at_most


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, set()),
        ("", set()),
        ("prompt-reports, grants", {PROMPT_REPORTS, GRANTS}),
        (" Grants ,", {GRANTS}),
        ("grants,something-newer", {GRANTS, "something-newer"}),
    ],
)
def test_a_features_header_is_a_list_of_words(value: str | None, words: set[str]) -> None:
    assert features(value) == words


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1.25", 1.25),
        ("0", 0.0),
        (None, math.inf),
        ("", math.inf),
        ("soon", math.inf),
        ("-1", math.inf),
        ("nan", math.inf),
    ],
)
def test_for_how_long_a_call_is_held_at_most(value: str | None, seconds: float) -> None:
    assert read_hold_at_most(value) == seconds
