"""Numbers of requests grow, are never given twice, and cannot be made up."""

from __future__ import annotations

from nullworker.engine.auth.keys import Keys
from nullworker.engine.auth.request_numbers import MARK_BITS, RequestNumbers

KEYS = Keys("account-key", bytes(32))


def test_they_grow_and_are_known() -> None:
    numbers = RequestNumbers(KEYS, 1, lambda place: place + 10)
    given = [numbers.new() for _ in range(100)]
    assert given == sorted(set(given))
    assert all(numbers.has_given(number) for number in given)


def test_no_other_engine_can_make_one_up() -> None:
    numbers = RequestNumbers(KEYS, 1, lambda place: place + 10)
    number = numbers.new()
    others = [number ^ bits for bits in range(1, 5_000)]
    assert not any(map(numbers.has_given, others))
    assert not any(map(numbers.has_given, (0, 1, -1, -number, 2**53 - 1)))
    other = RequestNumbers(Keys("account-key", bytes(31) + b"1"), 1, lambda place: place + 10)
    assert not numbers.has_given(other.new())


def test_a_number_is_not_good_before_it_is_given() -> None:
    numbers = RequestNumbers(KEYS, 1, lambda place: place + 10)
    twin = RequestNumbers(KEYS, 1, lambda place: place + 10)
    number = twin.new()
    assert not numbers.has_given(number)
    assert numbers.new() == number
    assert numbers.has_given(number)


def test_places_are_reserved_before_they_are_used() -> None:
    reserved: list[int] = []

    def reserve(place: int) -> int:
        reserved.append(place)
        return place + 3

    numbers = RequestNumbers(KEYS, 40, reserve)
    places = [numbers.new() >> MARK_BITS for _ in range(7)]
    assert places == [40, 41, 42, 43, 44, 45, 46]
    assert reserved == [40, 43, 46]


def test_one_of_before_a_restart_is_known_after_it() -> None:
    number = RequestNumbers(KEYS, 7, lambda place: place + 10).new()
    after = RequestNumbers(KEYS, 1_000_007, lambda place: place + 10)
    assert after.has_given(number)
    assert after.new() > number
