from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullworker.engine.auth.keys import Keys
from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys("the-account-key", b"s" * 32)


def test_a_new_engine_makes_a_random_account_key_and_keeps_it(tmp_path: Path) -> None:
    first = Keys.open(tmp_path)
    assert first.is_new
    key = first.account_key.reveal()
    assert len(bytes.fromhex(key)) == 32
    assert (tmp_path / "api_key").read_text().strip() == key
    again = Keys.open(tmp_path, vast_api_key="another-key-entirely")
    assert not again.is_new
    assert again.is_account(key)
    assert not again.is_account("another-key-entirely")


def test_vast_api_key_becomes_the_account_key_at_the_first_start(tmp_path: Path) -> None:
    keys = Keys.open(tmp_path, vast_api_key="my-own-key-0123456789abcdef")
    assert keys.is_account("my-own-key-0123456789abcdef")
    assert not keys.is_new, "it is not printed: its owner knows it"
    assert (tmp_path / "api_key").read_text() == "my-own-key-0123456789abcdef\n"


@pytest.mark.parametrize(
    "bad",
    [
        " ",
        "short",
        "has a space in it",
        "tab\tinside-it",
        "üüüüüüüüüü",
        "x" * 1_001,
        "ab" * 16,
        "only-21-characters-xy",
    ],
)
def test_an_unusable_vast_api_key_is_refused_and_changes_nothing(tmp_path: Path, bad: str) -> None:
    with pytest.raises(StateError, match="VAST_API_KEY holds no usable key"):
        Keys.open(tmp_path, vast_api_key=bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["xyz\n", "ab" * 31])
def test_a_damaged_secret_is_refused(tmp_path: Path, content: str) -> None:
    Keys.open(tmp_path)
    (tmp_path / "secret").write_text(content)
    with pytest.raises(StateError, match="is damaged"):
        Keys.open(tmp_path)


def test_derived_keys_survive_a_restart_and_nothing_of_them_is_stored(tmp_path: Path) -> None:
    first = Keys.open(tmp_path)
    derived = [first.endpoint_key(1), first.worker_token(1), first.join_token(1, 1)]
    again = Keys.open(tmp_path)
    assert again.is_endpoint(1, derived[0].reveal())
    assert again.is_worker(1, derived[1].reveal())
    assert again.joins(1, derived[2].reveal()) == 1
    assert again.mark == first.mark
    assert {found.name for found in tmp_path.iterdir()} == {"api_key", "secret"}


def test_two_engines_have_different_keys_and_marks(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = Keys.open(tmp_path / "a"), Keys.open(tmp_path / "b")
    assert not other.is_worker(1, one.worker_token(1).reveal())
    assert one.mark != other.mark
    assert len(one.mark) == 12


@given(st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_key_is_good_for_its_own_object_alone(one: int, other: int) -> None:
    """No key of one kind passes for another kind, nor for another id."""
    kinds = [
        (KEYS.endpoint_key, KEYS.is_endpoint),
        (KEYS.worker_token, KEYS.is_worker),
        (lambda number: KEYS.join_token(number, number), lambda number, key: KEYS.joins(number, key) == number),
    ]
    for position, (make, _) in enumerate(kinds):
        key = make(one).reveal()
        for check_position, (_, check) in enumerate(kinds):
            assert check(one, key) == (position == check_position)
            assert check(other, key) == (position == check_position and one == other)
        assert not KEYS.is_account(key)


@given(st.text())
def test_no_guess_passes(guess: str) -> None:
    """Any text at all is refused, and none makes the check fail."""
    assert not KEYS.is_worker(1, guess)
    assert not KEYS.is_endpoint(1, guess)
    assert KEYS.joins(1, guess) is None
    assert KEYS.is_account(guess) == (guess == "the-account-key")


def test_a_lone_surrogate_is_a_wrong_key_like_any_other() -> None:
    assert not KEYS.is_account("\ud800")
    assert not KEYS.is_worker(1, "\ud800")


def test_no_key_is_shown_by_what_holds_it() -> None:
    shown = repr([KEYS.account_key, KEYS.endpoint_key(1), KEYS.worker_token(1), KEYS.join_token(1, 1), KEYS])
    assert "the-account-key" not in shown
    assert KEYS.worker_token(1).reveal() not in shown
