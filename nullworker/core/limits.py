"""Every time and size that the core goes by, with the reason for the number."""

from __future__ import annotations

#: The granularity of scaling down: promises speak of "one tick".
TICK_S = 1.0
#: A worker reports at least each 10 s (the framework's rule, looked at each second).
REPORT_PERIOD_S = 10.0
#: Silent for so long, a worker is not granted any more: one report was missed and the next is late.
UNRESPONSIVE_AFTER_S = 20.0
#: Silent for so long, a free or booted worker has failed (design: "no report for 30 s").
SILENCE_FAILS_S = 30.0
#: A held worker's silence says nothing of its job; after this long, keeping it is of no use to its holder.
SILENCE_FAILS_HELD_S = 300.0
#: A client has so long to use a grant: the SDK gives a worker 10 s to answer, and asks again after that.
GRANT_TTL_S = 15.0
#: A grant used at the last moment is reported so much later: a tick of the worker and one repeat of its report.
GRANT_REPORT_S = 5.0
#: The SDK gives a worker's answer 10 s: a client that asks again sooner was refused, or never got our answer.
WORKER_ANSWER_S = 9.0
#: A worker's refusal is reported within this time: a tick of the worker, and latency. A client that asks again, and
#: whose refusal was not reported by then, has not got the engine's answer: it is given again.
REFUSAL_REPORT_S = 2.0
#: A waiter between two polls asks again within 5 s (the SDK's longest pause); then it counts as absent.
POLL_GRACE_S = 7.0
#: After a restart or a suspension silence means nothing, and nothing is scaled down, until all had time to report.
QUIET_S = 2 * REPORT_PERIOD_S
#: `wake_at` overrun by more than this means that the machine or the process was suspended.
SUSPENDED_AFTER_S = 5.0
#: Finished requests are remembered so long, so that a late report does not bring them back.
FINISHED_MEMORY_S = 120.0
#: And at most so many of them for a worker: 270 a second, beyond what one worker was seen to finish. Each takes about
#: 280 bytes, so that a worker that tells of as many takes 9 MiB, and one that ends ten jobs a minute 6 KiB.
FINISHED_MEMORY = 32_768
#: Ends that a worker is expected to tell of that say nothing of a later grant: at most of so many requests.
ENDS_EXPECTED_MAX = 1024
#: Sessions that the engine does not know are taken over from one worker: so many at once, and then so many a second,
#: more than a client can use late, and enough for what a worker holds after a lost store.
ADOPTED_AT_ONCE = 32
ADOPTED_PER_S = 1.0
#: And so many in all at one time. A worker that lists more gets nothing new, and is not ended.
ADOPTED_MAX = 256
#: That some were left out is noted once in so long for each worker.
LEFT_OUT_NOTE_S = 60.0
#: Numbers from here on are for workers that join by themselves; those that we make count up from 1.
JOINED_IDS_FROM = 1_000_000_000
#: Refusals in a row by a worker that holds nothing, after which something is wrong with it.
REFUSALS_MAX = 3
#: Late reports in a row after which a worker is believed to count from 0 again (a new process, same id),
LATE_REPORTS_MAX = 3
#: if nothing fresh has come for so long meanwhile: stragglers of a living worker are followed by a fresh report.
LATE_REPORTS_S = 25.0
#: Earlier processes of one worker whose late reports are known for what they are.
PROCESSES_REMEMBERED = 4
#: The framework sends one report again for so long (three tries of 10 s, 2 s apart): what arrives may be that old.
RESEND_S = 40.0
#: The framework looks so often whether it has something to report: two of its reports are so far apart at least.
REPORT_LOOK_S = 1.0
#: Of so many requests it is written down which of their ends a worker has told, and may still tell of earlier grants.
ENDS_RECORDED = 8
#: A session listed so long after it was reported as finished is no straggler's: it was opened again.
STRAGGLER_S = 60.0
#: A fleet has so long to answer an order before it is given again.
ORDER_TIMEOUT_S = 120.0
#: A create that was not confirmed and that no list shows is given up after this; if it appears later, it is unknown.
CREATE_UNKNOWN_S = 600.0
#: Orders that a fleet failed are repeated after 2, 4, 8 … s, at most this.
ORDER_RETRY_MAX_S = 60.0
#: A stop that fails so often turns into a destroy.
STOP_ATTEMPTS_MAX = 3
#: A fleet's list may miss what is newer than this, or show what is gone for so long.
LIST_LAG_S = 60.0
#: The longest pause between attempts of a workergroup that keeps failing; the first is 1 s, then it doubles.
BACKOFF_MAX_S = 300.0
#: A workergroup without a failure for so long counts as able again: nothing was wanted of it since.
UNABLE_FORGOTTEN_S = 2 * BACKOFF_MAX_S
#: A workergroup that failed so often in a row is tried with one worker at a time.
FAILURES_BEFORE_ONE_AT_A_TIME = 3
#: A worker that was ready for so long, or finished a request, clears its workergroup's record of failures.
PROVEN_AFTER_S = 60.0
#: Free workers looked at in one round of scaling down, so that a round is bounded.
SCALE_DOWN_ROUND = 64
#: What a client may say that it costs, and a worker that it does, at most; sums of such stay finite.
AMOUNT_MAX = 1e9
#: How long a waiter may ask to be remembered without a sign of life.
REPLAY_TIMEOUT_MAX_S = 3600.0
