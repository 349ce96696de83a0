"""Which of a worker's reports is the newest: they arrive late, twice and out of order.

The Null PyWorker numbers its reports (``seq``); the framework's own reports have no number. Of those, the count of
requests ever received never falls within one process, and the loading time tells one process from another.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.core import limits

if TYPE_CHECKING:
    from nullworker.core.events import WorkerReported
    from nullworker.core.reconcile.trust import Listening


class ReportAge(enum.Enum):
    """What a report is worth."""

    FRESH = "fresh"  # newer than all before it: what it says holds
    NEW_PROCESS = "new_process"  # fresh, and from another process than the one before: its loading time differs
    COUNTS_FROM_ZERO = "counts_from_zero"  # believed to be so, after many in a row that looked late
    LATE = "late"  # older than one before, or the same again: nothing in it is used
    UNPLACED = "unplaced"  # it may be of a process that is over, or the first of the next one: it may live, no more
    SIGN_OF_LIFE = "sign_of_life"  # without a number, soon after a numbered one: it lives, and no more is known


#: What such a report says is not used.
NOT_USED = frozenset({ReportAge.LATE, ReportAge.UNPLACED})


@dataclass(slots=True, eq=False)
class ReportOrder:
    """What is known of the order of one worker's reports."""

    numbers: bool = False  # whether the worker numbers its reports; known again after a restart
    seq: int = 0  # the highest number that came
    numbered_at: float = 0.0  # when that came, in s of the engine's clock
    #: When the numbered one before that came, after which that was made: the worker makes one when the one before has
    #: arrived.
    made_after: float = 0.0
    received: int = 0  # requests that the process had received, by the newest report
    #: What the newest report listed, if `received` is its count; None: not known.
    listed: tuple[int, ...] | None = None
    late_reports: int = 0  # late ones in a row
    #: Its process's loading time in s, when that was first told, and those of the processes before it.
    loadtime_s: float = 0.0
    speaks_since: float = float("-inf")
    loadtimes_before: tuple[float, ...] = ()
    #: The loading time that the report of the highest number told. Another than `loadtime_s`: the process that speaks
    #: now has done so without numbers alone.
    numbered_loadtime_s: float = 0.0
    #: A loading time that one report has told since the process of `loadtime_s` spoke, and when that came.
    other_loadtime_s: float = 0.0
    other_at: float = 0.0

    def classify(
        self, report: WorkerReported, now: float, listening: Listening, reported_at: float, *, serves: bool
    ) -> ReportAge:
        """Says what a report is worth, and takes note of it.

        Args:
            report: the report that came.
            now: when it came.
            listening: since when the engine was able to hear.
            reported_at: when the newest one before it came.
            serves: whether the worker is believed to serve, so that it may have a session.
        """
        if self._is_sign_of_life(report, now, listening):
            self._count_by_sign_of_life(report)
            return ReportAge.SIGN_OF_LIFE
        if report.seq and report.seq == self.seq:
            return ReportAge.LATE
        if self.seq and report.seq:
            age = self._age_by_number(report)
        elif (
            serves
            and now < max(listening.since, self.speaks_since) + limits.RESEND_S
            and self._may_be_of_before(report, now)
        ):
            age = ReportAge.LATE
        else:
            age = self._age_by_counts(report)
        if age is ReportAge.LATE:
            self.late_reports += 1
            silent_s = now - max(reported_at, listening.since)
            if self.late_reports < limits.LATE_REPORTS_MAX or silent_s < limits.LATE_REPORTS_S:
                return ReportAge.UNPLACED if self._may_be_of_next(report) else age
            # So many in a row are not left over: the worker counts from the beginning, a new process of the same id.
            self.numbers, self.seq, self.loadtimes_before, self.loadtime_s = False, 0, (), 0.0
            self.numbered_loadtime_s = 0.0
            age = ReportAge.COUNTS_FROM_ZERO
        self.received, self.late_reports, self.listed = report.received, 0, report.request_idxs
        if report.seq:
            self.numbers, self.seq, self.numbered_loadtime_s = True, report.seq, report.loadtime_s
            self.made_after, self.numbered_at = self.numbered_at, now
        if 0 < report.loadtime_s != self.loadtime_s:
            self.loadtime_s, self.speaks_since = report.loadtime_s, now
        return age

    def _is_sign_of_life(self, report: WorkerReported, now: float, listening: Listening) -> bool:
        """Whether it is the framework's own report, and may be older than the newest with a number.

        Later, it was made after that one, and corrects it. One of a process that is over is no sign of this one's life.
        """
        return (
            self.numbers
            and not report.seq
            and now < max(self.numbered_at, listening.since) + limits.RESEND_S
            and report.loadtime_s not in self.loadtimes_before
        )

    def _count_by_sign_of_life(self, report: WorkerReported) -> None:
        """Takes note of what its process has received: a numbered report that counts less is older."""
        if report.loadtime_s == self.loadtime_s > 0:
            self.has_received(report.received)

    def has_received(self, count: int) -> None:
        """The process has received so many requests, or more: a report with a lower count is an old one."""
        if count > self.received:
            self.received, self.listed = count, None

    def _age_by_number(self, report: WorkerReported) -> ReportAge:
        if report.seq < self.seq:
            return ReportAge.LATE
        # Later reports of its process, or of the next one, may have overtaken it: they have no number.
        is_of_this = report.loadtime_s == self.loadtime_s
        if self.numbered_loadtime_s != self.loadtime_s:
            if report.loadtime_s in self.loadtimes_before:
                return ReportAge.LATE
            is_of_this = is_of_this or not report.loadtime_s  # made while it loaded
        if is_of_this and self.loadtime_s > 0 and self._is_older_by_counts(report):
            return ReportAge.LATE
        if 0 < report.loadtime_s != self.loadtime_s > 0:
            self.new_process()
            return ReportAge.NEW_PROCESS
        return ReportAge.FRESH

    def _age_by_counts(self, report: WorkerReported) -> ReportAge:
        if report.loadtime_s in self.loadtimes_before:
            return ReportAge.LATE
        if 0 < report.loadtime_s != self.loadtime_s > 0:
            self.new_process()
            return ReportAge.NEW_PROCESS
        return ReportAge.LATE if self._is_older_by_counts(report) else ReportAge.FRESH

    def _may_be_of_before(self, report: WorkerReported, now: float) -> bool:
        """Whether a report without a number is the first of its loading time.

        Soon after this process spoke first, or after the engine was away, it may be all that is left of a process which
        was over before that and was not heard: a report is `RESEND_S` old at most. The next of the same says that there
        is a new process.
        """
        loadtime_s = report.loadtime_s
        if report.seq or not loadtime_s or not self.loadtime_s or loadtime_s in self.loadtimes_before:
            return False
        if loadtime_s == self.loadtime_s:
            self.other_loadtime_s = 0.0
            return False
        if loadtime_s == self.other_loadtime_s:
            return now < self.other_at + limits.REPORT_LOOK_S  # the same, twice
        self.other_loadtime_s, self.other_at = loadtime_s, now
        return True

    def _may_be_of_next(self, report: WorkerReported) -> bool:
        """Whether a report that looks late may be of a process after this one: it loads, or it has loaded once more."""
        return not report.seq and report.loadtime_s not in (self.loadtime_s, *self.loadtimes_before)

    def _is_older_by_counts(self, report: WorkerReported) -> bool:
        """Whether a report of the same process was made before the newest one, for certain.

        Nothing is added to what a process works on without a further request: of two reports with one count, the one
        that lists something that the other does not was made first. A worker that lists more than it counts does not
        count, and is believed.
        """
        if report.received != self.received or self.listed is None:
            return report.received < self.received
        listed = report.request_idxs
        return 0 < len(listed) <= report.received and not set(listed).issubset(self.listed)

    @property
    def loadtimes_s(self) -> tuple[float, ...]:
        """What is to be known again after a restart of the engine: reports of earlier processes may still come in."""
        if not self.loadtime_s and not self.loadtimes_before:
            return ()
        return (self.loadtime_s, *self.loadtimes_before)

    def restored(self, loadtimes_s: tuple[float, ...]) -> None:
        """The engine was restarted, and `loadtimes_s` was this."""
        if loadtimes_s:
            self.loadtime_s, *before = loadtimes_s
            self.loadtimes_before = tuple(before)

    def new_process(self) -> None:
        """Another process speaks for the worker from now on: it counts its requests from 0.

        If it numbers its reports, its numbers go on rising: a report left over from the process before is recognised.
        """
        self.received, self.late_reports, self.listed = 0, 0, None
        self.other_loadtime_s = 0.0
        if self.loadtime_s:
            self.loadtimes_before = (*self.loadtimes_before, self.loadtime_s)[-limits.PROCESSES_REMEMBERED :]
            self.loadtime_s = 0.0
