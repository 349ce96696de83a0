from nullworker.wire.backoff import backoff_s


def test_the_pause_doubles_up_to_its_maximum() -> None:
    pauses = [backoff_s(failures, first_s=0.5, max_s=3.0) for failures in range(6)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_it_stays_finite_for_ever() -> None:
    assert backoff_s(10_000, first_s=0.1, max_s=5.0) == 5.0
