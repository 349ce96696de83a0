"""What must hold in a world of a queue, by what happened to each job and by samples at each reading."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.simulation.queueing.world import QueueWorld

#: What rounding and polls of consumers add to any bound.
SLACK_S = 3.0


def broken(world: QueueWorld) -> Iterator[str]:
    """What is broken at the end of a world, in sentences; the world must have been quiet for long enough."""
    yield from _jobs(world)
    yield from _demand_is_met(world)
    yield from _no_more_than_needed(world)
    yield from _back_to_zero(world)


def settle_s(world: QueueWorld) -> float:
    """How long after a change of the queue as many reservations are open as it calls for, at most."""
    plan = world.plan
    hidden_s = 0.0
    traits = plan.traits
    if not traits.counts_in_flight or not traits.tells_abandoned or plan.others or plan.restarts or plan.deaths:
        hidden_s = plan.limits.claim_s  # a job may have been taken unseen
    return 2 * plan.poll_s + 2 * traits.lag_s + hidden_s + SLACK_S


def _jobs(world: QueueWorld) -> Iterator[str]:
    for job in world.history.jobs:
        if job.lost:
            continue
        if not job.done_at:
            yield f"job {job.number} was never done"
        elif len(job.done_at) > 1:
            yield f"job {job.number} was done {len(job.done_at)} times"
    for at in world.history.ended_at_work:
        yield f"a reservation was ended at {at:.1f} s while its consumer worked"


def _demand_is_met(world: QueueWorld) -> Iterator[str]:
    plan = world.plan
    limit_s = settle_s(world)
    traits = plan.traits
    if traits.counts_in_flight and not traits.tells_abandoned:
        limit_s += 2 * (traits.lease_s or 0.0)  # a worker is sent for jobs without a live consumer
    short_since: float | None = None
    for sample in world.history.samples:
        idle = sample.live - sample.our_jobs
        is_short = sample.free_jobs > idle and sample.live < plan.limits.most
        if not is_short:
            short_since = None
        elif short_since is None:
            short_since = sample.at
        elif sample.at - short_since > limit_s + sum(until - since for since, until in plan.unread):
            yield (
                f"from {short_since:.1f} s to {sample.at:.1f} s {sample.free_jobs} jobs could be taken, and "
                f"{idle} of {sample.live} reservations had none"
            )
            return


def _no_more_than_needed(world: QueueWorld) -> Iterator[str]:
    plan = world.plan
    if plan.many_jobs and not plan.traits.counts_in_flight:
        return  # whether a consumer that stays has done its job cannot be known
    spare = len(plan.others) + len(plan.deaths) + len(plan.restarts) + 1
    window_s = settle_s(world) + plan.boot_s
    recent: list[tuple[float, int]] = []  # jobs that could be served
    for sample in world.history.samples:
        recent.append((sample.at, sample.free_jobs + sample.our_jobs))
        while recent[0][0] < sample.at - window_s:
            recent.pop(0)
        served = max(jobs for _, jobs in recent)
        if sample.live > served + spare and _grew(world, sample.at, window_s):
            yield f"at {sample.at:.1f} s there were {sample.live} reservations for {served} jobs"
            return


def _grew(world: QueueWorld, at: float, window_s: float) -> bool:
    """Whether reservations were opened lately: that old ones stay is their consumers' affair."""
    before = [s.live for s in world.history.samples if at - window_s <= s.at <= at]
    return before[-1] > before[0]


def _back_to_zero(world: QueueWorld) -> Iterator[str]:
    plan = world.plan
    can_end = plan.patience_s is not None or (plan.traits.counts_in_flight and not plan.limits.lag_s)
    if can_end and world.live:
        yield f"{world.live} reservations are left"
