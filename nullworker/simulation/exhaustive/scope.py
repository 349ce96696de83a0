"""What a walk is about: how many clients and workers there are, what they are like, and what may go wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nullworker.core.parameters import TESTED_PARAMETERS, EndpointState, WorkergroupSpec

if TYPE_CHECKING:
    from nullworker.core.parameters import Parameters

ENDPOINT = 1
GROUP = 1
FLEET = "small"

#: What can go wrong; each costs one of a path's faults.
FAULTS = ("late", "unheard", "vanish", "create", "order", "exit", "error", "unusable", "list", "kill")
#: What an operator can do besides, at the same price; to take it back costs nothing.
OPERATORS = ("suspended", "stopped", "capped", "cold", "updated", "deleted")
#: What the endpoint is after its deletion; there is no way back.
DELETED = "deleted"


@dataclass(frozen=True)
class Scope:
    """A small world."""

    name: str
    about: str
    roots: tuple[str, ...] = ("empty", "free", "held")
    faults: tuple[str, ...] = ()
    faults_max: int = 2  # on one path
    clients: int = 2
    workers: int = 2
    numbered: bool = True  # a Null PyWorker: numbered reports, refuses old grants, gives a request its session again
    heartbeats: bool = False  # with the framework's unnumbered reports beside them
    occupancy: int | None = 1  # as the engine is told; None: it is to be learnt
    mail_max: int = 1  # messages under way
    cost: float = 100.0  # of a reservation; a worker's perf is 100
    parameters: Parameters = TESTED_PARAMETERS
    #: What must be seen in some state besides `ALWAYS`, so that a walk that goes nowhere fails.
    sometimes: tuple[str, ...] = ()

    @cached_property
    def as_put(self) -> dict[str, Parameters]:
        """The endpoint's parameters, by what an operator has made of it ("": nothing)."""
        plain = replace(self.parameters, max_workers=self.workers)
        return {
            "": plain,
            "suspended": replace(plain, state=EndpointState.SUSPENDED),
            "stopped": replace(plain, state=EndpointState.STOPPED),
            "capped": replace(plain, max_workers=1),
            "cold": replace(plain, cold_workers=1),
        }

    @cached_property
    def floor(self) -> int:
        """How many workers run without any demand."""
        return int(self.parameters.min_load > 0)

    @cached_property
    def is_exact(self) -> bool:
        """Whether it is one worker for one client, and none for none."""
        return self.parameters.target_util == 1.0 and not self.parameters.cold_workers and not self.floor

    @cached_property
    def workergroup(self) -> WorkergroupSpec:
        """The workergroup."""
        return WorkergroupSpec(GROUP, ENDPOINT, FLEET, occupancy=self.occupancy, boot_timeout_s=120.0)


#: What must be seen in some state of every scope: a command and its cause, or what happens in the world.
ALWAYS = (
    "Create load",
    "Grant first_in_line",
    "Grant kept_for_poll",
    "Grant unconfirmed",
    "Destroy idle",
    "Destroy failed_silent",
    "Note client_left",
    "Note client_silent",
    "Note finished",
    "Note not_listed_by_worker",
    "Note ready",
    "Note unconfirmed",
    "a session",
)
_LATE = ("late WorkerReported", "late RequestsFinished", "Grant confirmed")

SCOPES: dict[str, Scope] = {
    scope.name: scope
    for scope in (
        Scope("calm", "nothing goes wrong", roots=("empty", "free"), clients=3),
        Scope(
            "half", "nothing goes wrong, and a job costs half of a worker that takes one", ("empty", "free"), cost=50.0
        ),
        Scope("reports", "reports late, twice and lost", faults=("late", "unheard", "vanish"), sometimes=_LATE),
        Scope(
            "stock",
            "the same with the unmodified framework",
            roots=("empty", "free", "held", "unheard"),
            faults=("late", "unheard", "vanish"),
            numbered=False,
            sometimes=(*_LATE, "a session with an old grant", "refused by its worker", "Note refused_by_worker"),
        ),
        Scope(
            "both",
            "numbered reports, and heartbeats without a number",
            faults=("late", "unheard"),
            heartbeats=True,
            sometimes=_LATE,
        ),
        Scope(
            "fleet",
            "creations and orders fail, lists lie, workers end",
            roots=("empty", "free", "held", "unknown"),
            faults=("create", "order", "list", "exit"),
            sometimes=(
                "Destroy unknown_instance",
                "Note failed_create",
                "Note order_failed",
                "Destroy failed_not_listed",
                "late FleetListed",
            ),
        ),
        Scope(
            "restarts",
            "the engine is killed before and after what it writes down and answers",
            faults=("kill", "late", "unheard"),
            sometimes=(*_LATE, "Note restarted", "Create restarted", "Destroy restarted", "Note adopted"),
        ),
        Scope(
            "failures",
            "workers end, report errors, and what cannot be used",
            faults=("exit", "error", "unusable", "vanish", "late"),
            sometimes=(
                "Note report_refused",
                "Destroy failed_exited",
                "Destroy failed_reported",
                "Destroy failed_listed_ended",
            ),
        ),
        Scope(
            "learns",
            "how many a worker takes is learnt",
            faults=("late", "unheard", "exit"),
            occupancy=None,
            sometimes=_LATE,
        ),
        Scope(
            "usual",
            "a held worker may be asked for more, a worker stays, and a job costs half of a worker",
            roots=("empty", "free"),
            faults=("exit", "vanish"),
            cost=50.0,
            clients=3,
            parameters=replace(
                TESTED_PARAMETERS, min_load=1.0, target_util=0.9, max_queue_time=30.0, target_queue_time=10.0
            ),
            sometimes=("Destroy failed_exited",),
        ),
        Scope(
            "cold",
            "one worker is kept inactive; kills, and orders that fail",
            faults=("order", "exit", "kill", "list"),
            parameters=replace(TESTED_PARAMETERS, cold_workers=1),
            sometimes=("Create cold_reserve", "Stop idle", "Stop cold_reserve", "Start load", "Start restarted"),
        ),
        Scope(
            "again",
            "a worker that was stopped runs again, without numbers; a report from before is under way",
            roots=("again",),
            faults=("late", "unheard"),
            numbered=False,
            parameters=replace(TESTED_PARAMETERS, cold_workers=1),
            sometimes=("late WorkerReported", "Stop idle"),
        ),
        Scope(
            "operators",
            "the endpoint is suspended, stopped and deleted",
            faults=("suspended", "stopped", "deleted", "vanish"),
            sometimes=(
                "Stop endpoint_stopped",
                "Start load",
                "Refuse endpoint_deleted",
                "Destroy endpoint_deleted",
                "Note no_workers",
                "Note last_worker_gone",
            ),
        ),
        Scope(
            "changes",
            "parameters change, and workers are updated",
            roots=("free", "held", "two"),
            faults=("capped", "cold", "updated", "exit"),
            sometimes=("Destroy over_cap", "Destroy updated", "Create cold_reserve", "Stop cold_reserve", "Stop idle"),
        ),
    )
}
