"""What a walk is about: how many clients and workers there are, what they are like, and what may go wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec

if TYPE_CHECKING:
    from nullworker.core.parameters import Parameters

ENDPOINT = 1
GROUP = 1
FLEET = "small"

#: What can go wrong; each costs one of a path's faults.
FAULTS = ("late", "unheard", "vanish", "create", "order", "exit", "error", "list", "kill")


@dataclass(frozen=True, slots=True)
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

    @property
    def endpoint(self) -> Parameters:
        """The endpoint's parameters."""
        return replace(self.parameters, max_workers=self.workers)

    @property
    def floor(self) -> int:
        """How many workers run without any demand."""
        return int(self.parameters.min_load > 0)

    @property
    def is_exact(self) -> bool:
        """Whether it is one worker for one client, and none for none."""
        return self.parameters.target_util == 1.0 and not self.parameters.cold_workers and not self.floor

    @property
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
        Scope("reports", "reports late, twice and lost", faults=("late", "unheard", "vanish"), sometimes=_LATE),
        Scope(
            "stock",
            "the same with the unmodified framework",
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
            faults=("create", "order", "list", "exit"),
            sometimes=("Note failed_create", "Note order_failed", "Destroy failed_not_listed", "late FleetListed"),
        ),
        Scope(
            "restarts",
            "the engine is killed before and after what it writes down and answers",
            faults=("kill", "late", "unheard"),
            sometimes=(*_LATE, "Note restarted", "Create restarted", "Destroy restarted", "Note adopted"),
        ),
        Scope(
            "failures",
            "workers end, and report errors",
            faults=("exit", "error", "vanish", "late"),
            sometimes=("Destroy failed_exited", "Destroy failed_reported", "Destroy failed_listed_ended"),
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
    )
}
