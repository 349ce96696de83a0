"""What may be believed of a worker: whether it may be granted, whether it may be ended, and until when silence is fine.

A worker is *unresponsive* when it was silent for too long or when what it last said may be out of date: it gets nothing
new until its next fresh report. It *may hold something unknown* when a session may have begun on it, or may still begin
until a known time, that the engine does not know of (a grant that was not confirmed, a refusal while it seemed free):
until reports that were made later tell, it is not ended, and its silence is judged as that of a held one.
"""

from __future__ import annotations

from dataclasses import dataclass

from nullworker.core import limits


@dataclass(slots=True, eq=False)
class Listening:
    """When the engine itself was able to hear; its own absence is not the workers' silence."""

    since: float = 0.0  # silence before this is ours: we were down or suspended
    quiet_until: float = 0.0  # until then nothing is scaled down: all are given time to report

    def absent(self, now: float) -> None:
        """The engine was suspended, and is back."""
        self.since = now
        self.quiet_until = now + limits.QUIET_S

    def started(self, now: float, *, with_workers: bool) -> None:
        """The engine was started on what another one had known."""
        self.since = now
        if with_workers:
            self.quiet_until = now + limits.QUIET_S

    def is_quiet(self, now: float) -> bool:
        """Whether the workers are still given time to report."""
        return now < self.quiet_until


@dataclass(slots=True, eq=False)
class Trust:
    """What may be believed of one worker."""

    reported_at: float
    unresponsive: bool = False
    may_hold_unknown_until: float | None = None
    reports_wanted: int = 0  # made after that time, before the worker is believed to hold nothing unknown
    #: A client may have used a grant that ran out: a report without a number does not make it responsive before it is
    #: certain that it holds nothing unknown, for the report may have been made before the client came.
    doubted: bool = False
    #: Restored, and has not reported since; or what it reported may be of before the restart.
    awaiting_report: bool = False
    #: When it last told the end of a request: it lives, and what it holds now is not told.
    told_end_at: float = float("-inf")
    #: When a message of the worker was last refused, and why the last one was: it lives, and what it says is not known.
    refused_at: float = float("-inf")
    #: When a report last came that may be of the process after this one, or of one before: it may live.
    unplaced_at: float = float("-inf")
    refusal: str = ""

    @property
    def may_hold_unknown(self) -> bool:
        """Whether it may hold something that the engine does not know of."""
        return self.may_hold_unknown_until is not None

    def restored(self, now: float) -> None:
        """The engine was restarted: what was believed before is not known."""
        self.awaiting_report = self.unresponsive = True
        self.may_hold_unknown_until, self.reports_wanted = now, 2

    def may_hold_until(self, until: float) -> None:
        """It may hold something unknown, or come to hold it until then.

        Of a worker that numbers its reports the second one after ``until`` was made after it, for it makes one when
        the one before has arrived. Reports without a number may be old ones, sent again.
        """
        self.may_hold_unknown_until = max(until, self.may_hold_unknown_until or until)
        self.reports_wanted = 2

    def holds_nothing_unknown(self) -> None:
        """Its process certainly runs no more, or it is ended by force."""
        self.may_hold_unknown_until, self.doubted = None, False

    def heard(self, now: float, listening: Listening, *, numbered: bool) -> bool:
        """A fresh report came; True: the last one that was wanted to know that it holds nothing unknown.

        Args:
            now: the time.
            listening: what came in while the engine was away is read at its return, and is older than it seems.
            numbered: whether the report has a number.
        """
        until = self.may_hold_unknown_until
        if until is None or now < (until if numbered else max(until, listening.since) + limits.RESEND_S):
            return False
        self.reports_wanted -= 1 if numbered else 2
        if self.reports_wanted > 0:
            return False
        self.may_hold_unknown_until, self.doubted = None, False
        return True

    def is_responsive_by(self, *, numbered: bool) -> bool:
        """Whether a fresh report makes it responsive: a late one must not end the doubt of a grant that ran out."""
        return numbered or not self.doubted

    @property
    def lived_at(self) -> float:
        """When it last showed that it lives, by a report, the end of a request, or a message that was not used."""
        return max(self.reported_at, self.told_end_at, self.refused_at, self.unplaced_at)

    def silent_since(self, listening: Listening) -> float:
        """The time of its last sign of life, or that from which the engine listens, if that is later."""
        return max(self.lived_at, listening.since)

    def silence_due(self, listening: Listening, *, held: bool) -> float:
        """When its silence means something: that it is unresponsive or, when it is that already, that it has failed."""
        if not self.unresponsive:
            return max(self.reported_at, self.told_end_at, listening.since) + limits.UNRESPONSIVE_AFTER_S
        held = held or self.may_hold_unknown
        return self.silent_since(listening) + (limits.SILENCE_FAILS_HELD_S if held else limits.SILENCE_FAILS_S)
