"""Bugs to plant in `nullworker.demand`: each one that the dispatcher's simulator must notice, by seed.

They are written as those of the core are (`mutations`). ``python -m tests.simulation.queueing_mutants`` plants each and
hunts until it is caught; what caught it is kept in queueing_caught.json, which the tests and docs/simulation.md go by.
"""

from __future__ import annotations

from tests.simulation.mutations import Change, Mutation


def _bug(name: str, function: str, old: str, new: str = "") -> Mutation:
    return Mutation(name, (Change(function, old, new),))


QUEUEING_MUTATIONS: tuple[Mutation, ...] = (
    # What is demand
    _bug("abandoned jobs are no demand", "pool", "depth.waiting + (depth.abandoned or 0)", "depth.waiting"),
    _bug("what is in flight is all ours", "at_work", "min(seen + unseen, depth.in_flight)", "depth.in_flight"),
    _bug("what is in flight is at those that are held", "at_work", "min(seen + unseen, depth.in_flight)", "min(len(holding) * limits.jobs_per_worker, depth.in_flight)"),
    _bug("nothing is at work", "at_work", "return seen + unseen if depth.in_flight is None else min(seen + unseen, depth.in_flight)", "return 0"),
    _bug("in flight unknown is zero", "at_work", "seen + unseen if depth.in_flight is None else min(seen + unseen, depth.in_flight)", "min(seen + unseen, depth.in_flight or 0)"),
    _bug("what may be at work is not", "at_work", "seen + unseen if depth.in_flight is None else min(seen + unseen, depth.in_flight)", "seen if depth.in_flight is None else min(seen, depth.in_flight)"),
    _bug("one worker too many", "want", "math.ceil((waiting + working) / limits.jobs_per_worker)", "math.ceil((waiting + working) / limits.jobs_per_worker) + (waiting > 0)"),
    _bug("one worker too few", "want", "math.ceil((waiting + working) / limits.jobs_per_worker)", "math.floor((waiting + working) / (limits.jobs_per_worker + 0.01))"),
    _bug("a worker has one job at a time", "want", "math.ceil((waiting + working) / limits.jobs_per_worker)", "waiting + working"),
    _bug("a limit on parallel jobs is ignored", "want", "depth.parallel_max is not None", "False"),
    _bug("the maximum is ignored", "want", "min(limits.most, wanted + stuck)", "wanted + stuck"),
    _bug("the maximum is ignored by a rescue", "plan", "min(wanted + 1, limits.most)", "wanted + 1"),
    # Late numbers
    _bug("a closed reservation covers for ever", "covers", "taken_at_s + lag_s >= reading.at_s", "True"),
    _bug("late numbers are taken for prompt ones", "ReservationState.is_unsure", "limits.lag_s + claims * limits.claim_s", "claims * limits.claim_s"),
    _bug("late numbers never show that a job is over", "Evidence._look_for_over", "self._seen_over(sum([r.jobs for r in holding]) - in_flight, reading.at_s, limits.lag_s)", "0 if limits.lag_s else self._seen_over(sum([r.jobs for r in holding]) - in_flight, reading.at_s, limits.lag_s)"),
    # Requests
    _bug("requests are no capacity", "plan", "capped - have", "capped - (have - sum(r.phase is Phase.ASKED for r in live))"),
    # What reservations are believed to do
    _bug("a consumer that loads is at a job", "ReservationState.is_unsure", "held_s >= limits.lag_s + claims * limits.claim_s", "True"),
    _bug("what is not seen has not occurred", "ReservationState.is_unsure", "held_s >= limits.lag_s + claims * limits.claim_s", "False"),
    _bug("a queue that has not moved is no evidence", "ReservationState.is_unsure", "1 if self.moved or self.is_adopted else UNMOVED_CLAIMS", "1"),
    _bug("jobs taken are not noted", "ReservationState.take", "self.jobs += jobs", "pass"),
    _bug("a queue that becomes shorter is no evidence", "Evidence._compare", "max(fewer, risen)", "risen"),
    _bug("more in flight is no evidence", "Evidence._compare", "max(fewer, risen)", "fewer"),
    _bug("those that have ended are forgotten at once", "Evidence._compare", "0 if limits.lag_s else self._jobs_ended", "0"),
    # Jobs without a live consumer
    _bug("nothing is sent for jobs without a live consumer", "Demand.consider", "rescue = self.evidence.rescue(self.limits, now_s)", 'rescue = ""'),
    _bug("a job that ends puts off the rescue of another", "Evidence._look_for_left", "self._left < before", "True"),
    _bug("a rescue never ends", "Evidence._look_for_left", "if self._rescuing and not (self._left and any(r.phase in LIVE and not r.jobs for r in reservations)): self._rescuing = False; self._left_since_s = None"),
    _bug("one that passes over what waits is still loading", "Evidence._look_for_left", "spare and not passed_over", "spare"),
    _bug("an adopted one stands for what waits for ever", "Evidence._look_for_stuck", "free_since_s is None and reservation.is_adopted", "False"),
    _bug("one whose job came and went unseen stands for what waits for ever", "Standstill.at_least", "lasts_s >= _doubled(_first_s(limits), self._sent)", "False"),
    _bug("where there is no room those stay that take nothing", "Standstill.in_the_way", "lasts_s is None or not self._at_rest or lasts_s < _doubled(longest_s, self._ended)", "True"),
    _bug("those that take nothing are ended whatever is in flight", "Standstill.in_the_way", "lasts_s is None or not self._at_rest or lasts_s < _doubled(longest_s, self._ended)", "lasts_s is None or lasts_s < _doubled(longest_s, self._ended)"),
    # Progress and idleness
    _bug("progress does not end slowness", "Evidence._compare", "if is_progress or not pool(depth): self.futile = 0"),
    _bug("those at work are idle when nothing waits", "Evidence.add", "pool(depth) or depth.in_flight != 0 or not depth.exact", "pool(depth) or not depth.exact"),
    _bug("what is in flight is unknown, and reservations are idle", "Evidence.add", "pool(depth) or depth.in_flight != 0 or not depth.exact", "pool(depth) or depth.in_flight or not depth.exact"),
    _bug("idle reservations are not ended", "Evidence.idle", "last.at_s - since_s < empty_s or now_s - last.at_s > limits.stale_after_s", "True"),
)  # fmt: skip
