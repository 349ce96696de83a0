"""What the queues on Redis share, as far as it needs no server."""

from __future__ import annotations

import pytest

from nullworker.queues._redis import HAND_OVER_S, HandOver, first_score


def test_an_empty_queue_is_certain_once_it_has_been_empty_for_a_moment() -> None:
    """A message that was popped a millisecond ago is nowhere, and the queue looks empty."""
    hand_over = HandOver()
    assert hand_over.is_over(100.0, is_empty=False)
    assert not hand_over.is_over(105.0, is_empty=True)
    assert not hand_over.is_over(105.0 + HAND_OVER_S / 2, is_empty=True)
    assert hand_over.is_over(105.0 + HAND_OVER_S, is_empty=True)
    assert hand_over.is_over(110.0, is_empty=False)
    assert not hand_over.is_over(120.0, is_empty=True)


@pytest.mark.parametrize(
    ("answer", "score"),
    [([], None), ([b"a", b"1.5"], 1.5), ([(b"a", 1.5)], 1.5), ([[b"a", b"1.5"], [b"b", b"2"]], 1.5)],
)
def test_scores_are_read_from_flat_and_from_paired_answers(answer: list[object], score: float | None) -> None:
    assert first_score(answer) == score
