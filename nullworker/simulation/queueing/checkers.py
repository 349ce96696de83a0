"""What must hold in a world of a queue, by what happened to each job and by samples at each reading.

What a dispatcher cannot know is excused by what truly happened, reservation by reservation (`world.Sample`).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from nullworker.demand.reservations import UNMOVED_CLAIMS
from nullworker.simulation.queueing.broker import Returns
from nullworker.simulation.queueing.world import NOTICED_S, RESTART_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.simulation.queueing.plan import QueuePlan
    from nullworker.simulation.queueing.world import QueueWorld, Sample

#: What rounding and polls of consumers add to any bound.
SLACK_S = 3.0


class Broken(NamedTuple):
    """A promise that was not kept."""

    at_s: float
    what: str


def broken(world: QueueWorld) -> Iterator[Broken]:
    """What is broken at the end of a world, in sentences; the world must have been quiet for long enough."""
    yield from _jobs(world)
    yield from _ended_at_work(world)
    yield from _demand_is_met(world)
    yield from _no_more_than_needed(world)
    yield from _back_to_zero(world)


def settle_s(plan: QueuePlan) -> float:
    """How long after a change of the queue as many reservations are open as it calls for, at most."""
    hidden_s = 0.0
    traits = plan.traits
    hides = plan.others or plan.restarts or plan.kills or plan.prefetch  # what one hands back hides what another takes
    if hides or not traits.counts_in_flight or not traits.tells_abandoned:
        hidden_s = plan.limits.claim_s  # a job may have been taken unseen
    noticed_s = NOTICED_S if plan.kills else 0.0
    if plan.stays:  # those whose jobs are over may seem to load for others that wait: 1, 2, 4, … more are sent
        limits = plan.limits
        once_s = max(limits.claim_s, limits.max_idle_hold_s or 0.0) + plan.boot_s + plan.load_s + 2 * plan.poll_s
        hidden_s = once_s * (1 + math.log2(limits.most)) + UNMOVED_CLAIMS * limits.claim_s * (1 + len(plan.restarts))
    blind_s = sum(until - since for since, until in plan.unread) + len(plan.restarts) * RESTART_S
    blind_s += sum(lying.until - lying.since for lying in plan.lies)
    return 2 * plan.poll_s + 2 * traits.lag_s + plan.confirm_s + hidden_s + noticed_s + blind_s + SLACK_S


def _jobs(world: QueueWorld) -> Iterator[Broken]:
    for job in world.history.jobs:
        if not job.done_at:
            if not job.lost:
                yield Broken(world.now, f"job {job.number} was never done")
        elif len(job.done_at) > 1 and not job.outlived:
            yield Broken(job.done_at[1], f"job {job.number} was done {len(job.done_at)} times")


def _ended_at_work(world: QueueWorld) -> Iterator[Broken]:
    for at in world.history.ended_at_work:
        if not any(lying.since <= at < lying.until and not lying.is_told for lying in world.plan.lies):
            yield Broken(at, f"a reservation was ended at {at:.1f} s while its consumer worked")


def _demand_is_met(world: QueueWorld) -> Iterator[Broken]:
    """A job waits no longer than a settle window, and its lease, for a reservation that is there for it."""
    plan, traits = world.plan, world.plan.traits
    limit_s = settle_s(plan)
    if traits.counts_in_flight and traits.returns is Returns.CONSUMER and not traits.tells_abandoned:
        limit_s += 2 * (traits.lease_s or 0.0)  # a worker is sent for jobs without a live consumer
    samples = world.history.samples
    for number, sample in enumerate(samples):
        since = sample.at - limit_s
        jobs = bisect_right(sample.free_since, since)
        if jobs > sample.idle and _is_short(samples, number, since, jobs, plan.limits.most):
            yield Broken(
                sample.at,
                f"from {since:.1f} s to {sample.at:.1f} s {jobs} jobs could be taken, and fewer than that by our "
                f"reservations: at last {sample.idle}, by {sample.live} reservations",
            )
            return


def _is_short(samples: list[Sample], number: int, since: float, jobs: int, most: int) -> bool:
    """Whether the reservations had no room for so many jobs all the time, though more were allowed."""
    while number >= 0 and samples[number].at >= since:
        sample = samples[number]
        # The first of ours that asks for a job brings back those whose consumer is dead, and then they are shown.
        needed = min(jobs - (sample.unshown if sample.idle else 0), sample.room)
        if sample.idle >= needed or sample.live >= most:
            return False
        number -= 1
    return True


def _no_more_than_needed(world: QueueWorld) -> Iterator[Broken]:
    """Reservations are opened for jobs that could be served, of one settle window; else requests are withdrawn."""
    plan = world.plan
    window_s = settle_s(plan) + plan.boot_s
    samples = world.history.samples
    first = 0
    none_asked_at = 0.0
    for number, sample in enumerate(samples):
        if not sample.asked:
            none_asked_at = sample.at
        while samples[first].at < sample.at - window_s:
            first += 1
        if any(_lies(plan, at.at) for at in (sample, samples[first])):
            continue
        # That those stay which are held is their consumers' affair.
        if sample.live <= samples[number - 1].live and none_asked_at >= sample.at - window_s:
            continue
        recent = samples[first : number + 1]
        rescued = any(sample.at - window_s <= at <= sample.at for at in world.history.rescues)
        more = sum(number for at, number in world.history.more if sample.at - window_s <= at <= sample.at)
        jobs = max(s.most_jobs for s in recent)
        served = math.ceil(jobs / plan.limits.jobs_per_worker) + max(s.unsure for s in recent) + rescued + more
        if sample.live > min(served, plan.limits.most):
            yield Broken(
                sample.at,
                f"at {sample.at:.1f} s there were {sample.live} reservations for {jobs} jobs; {served} would do, and "
                f"{plan.limits.most} are allowed",
            )
            return


def _lies(plan: QueuePlan, at: float) -> bool:
    return any(lying.since <= at < lying.until + settle_s(plan) for lying in plan.lies)


def _back_to_zero(world: QueueWorld) -> Iterator[Broken]:
    plan = world.plan
    can_end = plan.patience_s is not None or (plan.traits.counts_in_flight and not plan.limits.lag_s)
    if can_end and world.live:
        yield Broken(world.now, f"{world.live} reservations are left")


#: What must occur in some of the worlds, by the words of `world.History.seen`: checkers that see none of it would be
#: content with anything.
SOMETIMES = {
    "a job rescued": "a worker was sent for jobs in flight without a live consumer, and brought one back",
    "a job taken again": "the broker gave a dead consumer's job to another",
    "abandoned jobs shown": "a reading said that jobs have no live consumer",
    "a worker lost": "one of our workers died in the middle of a job",
    "a job lost": "it was acknowledged when it began, and its consumer died",
    "a consumer stood still": "for longer than its lease, so that its job was given to another as well",
    "a job of others": "a consumer that is not ours took a job",
    "a foreign job taken again": "one that a consumer which is not ours took after another had died with it",
    "a job taken beforehand": "a consumer took more jobs than it works on at a time",
    "a job taken unseen": "no reading shows it, because another job came at the same time",
    "a late reading": "the numbers were those of some time ago",
    "a lie": "the broker showed a wrong number",
    "inexact": "the adapter said that the reading is not exact",
    "paused": "the queue was paused",
    "unread": "the queue could not be read",
    "restarted": "the dispatcher was killed and started again",
    "adopted": "it went on with reservations of the one before",
    "withdrawn": "a request was no longer wanted",
    "ended when idle": "a reservation was ended because nothing was left to do",
    "stayed": "a consumer did not end after its job, and its reservation was ended",
    "sent for what waits": "none of ours took it, and another worker was opened",
    "slowed down": "reservations came to nothing, and the next was opened later",
    "in doubt": "what a reservation does was not known",
    "a late acknowledgement": "jobs are acknowledged when they are done",
    "an early acknowledgement": "jobs are acknowledged when they begin",
}


def unseen(seen: set[str]) -> list[str]:
    """What has not occurred."""
    return [name for name in SOMETIMES if name not in seen]
