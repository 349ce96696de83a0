"""Bugs that nothing notices: why each is no mistake."""

from __future__ import annotations

#: The name of a bug of docs/mutation.json: why it changes nothing that the core promises.
EQUIVALENT: dict[str, str] = {
    "an old reminder is kept when parameters change": (
        "A reminder is a look, and what is due is worked out again at each. One that is too early looks and sets the "
        "next; one that is too late is replaced, for an earlier one is always set."
    ),
    "recovery:take_back_unsent: list(worker.held.values()) if worker.is_overfull else () → list(worker.held.values())": (
        "Each reservation is only taken back while the worker is overfull, which is asked again for each: the first "
        "question saves the copy of the list."
    ),
    "parameters:WorkergroupSpec.__post_init__: self.boot_timeout_s → self.perf": (
        "`math.isfinite` of another field. What is not finite is refused by the bounds beside it as well: no number "
        "that is not one lies between them."
    ),
    "journal:_unpack: len(inner) == 2 and inner[1] is Ellipsis → len(inner) == 2 or inner[1] is Ellipsis": (
        "The only tuple of a known length in an event is that of a worker id and a state, whose parts are taken as "
        "they are, whatever type is named for them."
    ),
    "waiting_line:WaitingLine.remove: self.order.clear() → (removed)": (
        "Entries whose waiter has gone are passed over and dropped when they come up in `first`; to clear them all "
        "at once is only quicker."
    ),
    "engine:_plan_overdue: endpoint.overdue_at is None or due < endpoint.overdue_at or endpoint.overdue_at <= state.now → endpoint.overdue_at is None or due < endpoint.overdue_at": (
        "A time in the past was set as a reminder, which has not been taken yet: the next look at what is due takes "
        "it, and sets the next."
    ),
}
