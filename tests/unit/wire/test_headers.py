import pytest

from nullworker.wire.headers import GRANTS, PROMPT_REPORTS, features


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
