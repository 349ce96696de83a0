from nullworker.engine.auth.worker_clocks import LATE_S, WorkerClocks
from nullworker.wire.worker_clock import WorkerTime

WORKER = 7


def test_a_clock_goes_on_between_reports() -> None:
    clocks = WorkerClocks()
    assert clocks.read(WORKER, 100.0) is None
    clocks.heard(WORKER, WorkerTime("a", 5.0), 100.0)
    assert clocks.read(WORKER, 107.5) == WorkerTime("a", 12.5)


def test_a_report_that_was_long_under_way_does_not_put_the_clock_back() -> None:
    clocks = WorkerClocks()
    clocks.heard(WORKER, WorkerTime("a", 5.0), 100.0)
    clocks.heard(WORKER, WorkerTime("a", 6.0), 100.0 + LATE_S)
    assert clocks.read(WORKER, 200.0) == WorkerTime("a", 105.0)


def test_one_that_was_faster_puts_it_right() -> None:
    clocks = WorkerClocks()
    clocks.heard(WORKER, WorkerTime("a", 5.0), 130.0)
    clocks.heard(WORKER, WorkerTime("a", 40.0), 135.0)
    assert clocks.read(WORKER, 136.0) == WorkerTime("a", 41.0)


def test_a_clock_that_stood_still_with_its_machine_is_read_again() -> None:
    clocks = WorkerClocks()
    clocks.heard(WORKER, WorkerTime("a", 5.0), 100.0)
    clocks.heard(WORKER, WorkerTime("a", 6.0), 3700.0)
    assert clocks.read(WORKER, 3701.0) == WorkerTime("a", 7.0)


def test_each_process_of_a_worker_has_its_own() -> None:
    clocks = WorkerClocks()
    clocks.heard(WORKER, WorkerTime("a", 500.0), 100.0)
    clocks.heard(WORKER, WorkerTime("b", 3.0), 101.0)
    assert clocks.read(WORKER, 102.0) == WorkerTime("b", 4.0)
