"""Other autoscalers' rules in the same world: each as its documentation or source states it, with the place.

A rival sees what its rule sees (the queue's length, what is in flight, utilisation) at its own intervals, and says how
many workers there should be. What differs most is *which* worker goes when there are too many, and what becomes of its
job. Kubernetes' rules are here twice: as they are by default, where a consumer that is told to end drops its job, which
begins again from its start at the head of the queue; and as users with long jobs set them (*graceful*): messages in
flight are counted, and a worker that is told to end finishes its job first (terminationGracePeriodSeconds).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class View:
    """What a rule can see at one of its looks."""

    now_s: float
    waiting: int
    running: int
    booting: int
    workers: int  # booting, free and running; none that is told to end
    in_flight: int  # jobs that run, those on workers that are told to end among them
    idle: int
    cap: int
    #: The share of the ready workers' time since the last look in which they worked.
    utilisation: float


class Rule(Protocol):
    """A rival's rule."""

    name: str
    source: str
    interval_s: float
    #: "replicaset": one that boots, else one of those that are ready for the shortest time, be it at work or not;
    #: "idle": only one without a job; "never": workers end by themselves.
    victims: str
    #: A worker that is taken away while it works finishes its job first; else the job begins again.
    is_graceful: bool
    #: A worker without a job ends after so long by itself; None: only the rule takes it away.
    idle_exit_s: float | None
    #: A worker does one job and ends.
    one_job: bool

    def wanted(self, view: View) -> int:
        """How many workers there should be now."""


@dataclass(slots=True)
class _Rule:
    name: str
    source: str
    interval_s: float
    formula: Callable[[_Rule, View], int]
    victims: str = "replicaset"
    is_graceful: bool = False
    idle_exit_s: float | None = None
    one_job: bool = False
    #: What the rule remembers: (at_s, wanted) of its last looks, a time, a count.
    seen: deque[tuple[float, int]] = field(default_factory=deque)
    since_s: float = -math.inf

    def wanted(self, view: View) -> int:
        return max(0, min(view.cap, self.formula(self, view)))


def _stabilised(rule: _Rule, view: View, wanted: int, window_s: float = 300.0) -> int:
    """Kubernetes' HPA scales down to the highest it wanted in the last five minutes."""
    rule.seen.append((view.now_s, wanted))
    while rule.seen and rule.seen[0][0] < view.now_s - window_s:
        rule.seen.popleft()
    return max(count for _, count in rule.seen)


def _keda_object(rule: _Rule, view: View) -> int:
    """One replica for each waiting message; zero after a cooldown of 300 s without any."""
    return _keda_replicas(rule, view, view.waiting)


def _keda_in_flight(rule: _Rule, view: View) -> int:
    """One replica for each message that waits or is in flight; zero after a cooldown of 300 s without any."""
    return _keda_replicas(rule, view, view.waiting + view.in_flight)


def _keda_replicas(rule: _Rule, view: View, wanted: int) -> int:
    if wanted or view.workers == 0:
        rule.since_s = view.now_s
    if wanted == 0 and view.now_s - rule.since_s >= 300.0:
        rule.seen.clear()
        return 0
    return _stabilised(rule, view, max(1, wanted) if view.workers or wanted else 0)


def _keda_job_default(_: _Rule, view: View) -> int:
    """New jobs: the queue's length less the jobs that run (its stall is keda issue 1222)."""
    return view.workers + max(0, view.waiting - (view.running + view.booting))


def _keda_job_accurate(_: _Rule, view: View) -> int:
    """New jobs: the queue's length less the jobs that are pending."""
    return view.workers + max(0, min(view.waiting - view.booting, view.cap - view.workers))


def _utilisation(rule: _Rule, view: View) -> int:
    """Replicas x utilisation / target, a tenth of tolerance, never below one.

    On the way up, replicas that are not ready yet count as idle ones.
    """
    ready = view.workers - view.booting
    if not ready:
        return max(1, view.workers)
    ratio = view.utilisation / 0.7
    if ratio > 1:
        ratio = max(1.0, ratio * ready / view.workers)
    wanted = view.workers if abs(ratio - 1) <= 0.1 else math.ceil(view.workers * ratio)
    return max(1, _stabilised(rule, view, wanted))


def _skypilot(rule: _Rule, view: View) -> int:
    """One more when something has been PENDING for 300 s, and down to what runs when nothing has for as long."""
    if view.waiting:
        rule.seen.append((view.now_s, view.waiting))
    if view.now_s - rule.since_s < 300.0:
        return view.workers
    pending = bool(rule.seen)
    rule.seen.clear()
    rule.since_s = view.now_s
    return view.workers + 1 if pending else view.running


def _runpod(_: _Rule, view: View) -> int:
    """Request count: what is in the queue and in progress, divided by the scaler's value (1)."""
    return view.waiting + view.running


def _buildkite(_: _Rule, view: View) -> int:
    """Scheduled and running jobs, divided by the agents of an instance (1)."""
    return max(view.workers if view.idle == 0 else 0, view.waiting + view.running)


def _vast(target_util: float) -> Callable[[_Rule, View], int]:
    """Load of the sessions over the target; a waiter counts for nothing once a second worker is active."""

    def wanted(_: _Rule, view: View) -> int:
        by_load = math.ceil(view.running / target_util - 1e-9)
        first_steps = min(2, view.running + view.waiting)
        return max(by_load, first_steps)

    return wanted


def rivals() -> list[Rule]:
    """Fresh rules, in the order of the table."""
    return [*_kubernetes(), *_rented()]


def _kubernetes() -> list[Rule]:
    return [
        _Rule(
            "KEDA ScaledObject, queue length",
            "https://keda.sh/docs/latest/reference/scaledobject-spec/ (pollingInterval 30, cooldownPeriod 300)",
            30.0,
            _keda_object,
        ),
        _Rule(
            "KEDA ScaledJob, default",
            "https://keda.sh/docs/latest/reference/scaledjob-spec/ (scalingStrategy default)",
            30.0,
            _keda_job_default,
            victims="never",
            one_job=True,
        ),
        _Rule(
            "KEDA ScaledJob, accurate",
            "https://keda.sh/docs/latest/reference/scaledjob-spec/ (scalingStrategy accurate)",
            30.0,
            _keda_job_accurate,
            victims="never",
            one_job=True,
        ),
        _Rule(
            "KEDA ScaledJob, accurate, poll 5 s",
            "as above, with pollingInterval 5",
            5.0,
            _keda_job_accurate,
            victims="never",
            one_job=True,
        ),
        _Rule(
            "KEDA in flight, graceful",
            "https://keda.sh/docs/latest/scalers/aws-sqs/ (scaleOnInFlight, its default; 15 s are the HPA's)",
            15.0,
            _keda_in_flight,
            is_graceful=True,
        ),
        _Rule(
            "HPA, utilisation 70 %",
            "https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ (15 s, stabilisation 300 s)",
            15.0,
            _utilisation,
        ),
        _Rule(
            "HPA 70 %, graceful",
            "as above, with terminationGracePeriodSeconds above the longest job",
            15.0,
            _utilisation,
            is_graceful=True,
        ),
    ]


def _rented() -> list[Rule]:
    return [
        _Rule(
            "SkyPilot Pools",
            "https://github.com/skypilot-org/skypilot sky/serve/autoscalers.py (QueueLengthAutoscaler)",
            20.0,
            _skypilot,
            victims="idle",
        ),
        _Rule(
            "RunPod, request count",
            "https://docs.runpod.io/serverless/endpoints/endpoint-configurations (idle timeout 5 s)",
            1.0,
            _runpod,
            victims="never",
            idle_exit_s=5.0,
        ),
        _Rule(
            "RunPod, idle 10 s",
            "as above, with an idle timeout as long as this engine's inactivity_timeout in TESTED_PARAMETERS",
            1.0,
            _runpod,
            victims="never",
            idle_exit_s=10.0,
        ),
        _Rule(
            "Buildkite scaler",
            "https://github.com/buildkite/buildkite-agent-scaler scaler/scaling_calculator.go (idle agents 600 s)",
            10.0,
            _buildkite,
            victims="never",
            idle_exit_s=600.0,
        ),
        _Rule(
            "Vast as observed, target_util 1.0",
            "the stall at 2 to 3 that this project began with; docs/scaling.md",
            1.0,
            _vast(1.0),
            victims="idle",
            idle_exit_s=10.0,
        ),
        _Rule(
            "Vast as observed, target_util 0.9",
            "the worker too many that this project began with; docs/scaling.md",
            1.0,
            _vast(0.9),
            victims="idle",
        ),
    ]
