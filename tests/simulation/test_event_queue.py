"""What stands in a line is done when it would have been done out of the heap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nullworker.simulation.event_queue import EventQueue

DELAYS_S = (0.0, 0.5, 2.0, 3.0)
#: A thing: when it is set, by which delay it is put off, and by which delays what it sets itself is put off.
THINGS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(DELAYS_S), st.lists(st.sampled_from(DELAYS_S))))


def _done(
    queue: EventQueue, things: list[tuple[int, float, list[float]]]
) -> list[tuple[float, str, int, float | None]]:
    done: list[tuple[float, str, int, float | None]] = []

    def do(name: str, following: list[float]) -> None:
        done.append((queue.now, name, len(queue), queue.next_at()))
        for number, delay_s in enumerate(following):
            queue.after(delay_s, do, f"{name}.{number}", [])

    for number, (at, delay_s, following) in enumerate(things):
        queue.at(at, queue.after, delay_s, do, str(number), following)
    for end in (1.0, 2.5, 20.0):
        queue.run_until(end)
        done.append((queue.now, "until", len(queue), queue.next_at()))
    return done


@given(THINGS)
def test_lines_change_nothing_about_the_order(things: list[tuple[int, float, list[float]]]) -> None:
    assert _done(EventQueue((0.0, 2.0, 3.0)), things) == _done(EventQueue(), things)
