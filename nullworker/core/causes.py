"""Why something was decided or has happened, as codes.

Each command, note and stored row carries one. The sentence beside it (``reason``) is for people and may be edited
freely: no code reads it. The codes are stored, journalled, shown by ``status`` and ``explain``, and are metric labels:
a code's text is never changed, and one that is no longer used is not used again for something else.
"""

from __future__ import annotations

import enum


class Cause(enum.Enum):
    """A code. Those of failures begin with ``failed_``."""

    # Answers to clients
    FIRST_IN_LINE = "first_in_line"  # the longest waiting got the worker that was freed last
    KEPT_FOR_POLL = "kept_for_poll"  # its client was between two polls when a worker was free
    UNCONFIRMED = "unconfirmed"  # the worker has not confirmed the grant
    CONFIRMED = "confirmed"  # the worker reported the session
    WRONG_ENDPOINT = "wrong_endpoint"
    NO_ENDPOINT = "no_endpoint"
    COST_OUT_OF_BOUNDS = "cost_out_of_bounds"

    # What becomes of waiters, grants and sessions
    CLIENT_LEFT = "client_left"
    CLIENT_SILENT = "client_silent"  # it did not ask again for replay_timeout
    NOT_ASKED_AGAIN = "not_asked_again"  # a worker was kept for it, and it did not ask again
    REFUSED_BY_WORKER = "refused_by_worker"
    FINISHED = "finished"  # the worker reported the end
    NOT_LISTED_BY_WORKER = "not_listed_by_worker"  # the worker's report no longer lists the session
    ADOPTED = "adopted"  # a worker reported a session that was not known
    TOO_MANY_UNKNOWN = "too_many_unknown"  # it reported more such sessions than are taken over from one worker

    # Why workers come
    LOAD = "load"  # the load wants more active perf
    PLACES = "places"  # waiters want more places
    COLD_RESERVE = "cold_reserve"  # cold_workers, cold_mult or min_cold_load
    JOINED = "joined"  # started outside the engine, with the endpoint's join token
    READY = "ready"
    NEW_PROCESS = "new_process"  # another process speaks for the worker
    REPORT_REFUSED = "report_refused"  # a message of the worker could not be taken

    # Why workers go
    IDLE = "idle"  # free for inactivity_timeout, and not needed
    CHEAPER_ABLE = "cheaper_able"  # a free stand-in: a cheaper workergroup is able again
    OVER_CAP = "over_cap"  # beyond max_workers
    ENDPOINT_STOPPED = "endpoint_stopped"
    ENDPOINT_DELETED = "endpoint_deleted"
    WORKERGROUP_DELETED = "workergroup_deleted"
    UPDATED = "updated"  # a rolling update of its workergroup
    UNKNOWN_INSTANCE = "unknown_instance"  # it bears our mark, and the engine does not know it
    RUNS_THOUGH_STOPPED = "runs_though_stopped"
    ENGINE_ENDED = "engine_ended"  # the engine was told to end: what was free ended with it, what was held runs on
    STOP_FAILED = "stop_failed"  # it could not be stopped, and is destroyed
    LAST_WORKER_GONE = "last_worker_gone"
    NO_WORKERS = "no_workers"

    # Orders given again
    RESTARTED = "restarted"  # an engine took over from the one before it
    ORDER_NOT_CONFIRMED = "order_not_confirmed"
    ORDER_FAILED = "order_failed"

    # Failures of workers
    FAILED_REPORTED = "failed_reported"  # its own error message
    FAILED_SILENT = "failed_silent"  # no report for too long
    FAILED_EXITED = "failed_exited"  # its instance ended by itself
    FAILED_GONE = "failed_gone"  # its instance is gone, without an order
    FAILED_BOOT = "failed_boot"  # not ready within boot_timeout_s
    FAILED_REFUSALS = "failed_refusals"  # it refused reservations though it holds none
    FAILED_CREATE = "failed_create"  # the fleet could not create it
    FAILED_NO_PLACE = "failed_no_place"  # the fleet has no place for it now
    FAILED_CREATE_UNKNOWN = "failed_create_unknown"  # the fleet never said whether it created it
    FAILED_START = "failed_start"
    FAILED_NOT_LISTED = "failed_not_listed"  # its fleet no longer lists it
    FAILED_LISTED_STOPPED = "failed_listed_stopped"
    FAILED_LISTED_ENDED = "failed_listed_ended"

    __hash__ = object.__hash__  # of its identity: an enum's own is computed from its name each time

    @property
    def is_failure(self) -> bool:
        """Whether a worker has failed."""
        return self.value.startswith("failed_")


class Blocker(enum.Enum):
    """Why a waiter has no worker yet."""

    NONE = ""  # it has one, or is not known
    ENDPOINT_GONE = "endpoint_gone"
    ENDPOINT_STOPPED = "endpoint_stopped"
    ENDPOINT_SUSPENDED = "endpoint_suspended"
    NO_WORKERGROUP = "no_workergroup"
    UNCONFIRMED = "unconfirmed"  # it was given a worker, which has not confirmed it
    CLIENT_SILENT = "client_silent"  # no client of those that wait has asked lately
    COMING_UP = "coming_up"  # workers are on their way
    BACKING_OFF = "backing_off"  # its workers failed to start; the next try is later
    NO_PLACE = "no_place"  # its fleets have no place for a worker; the next try is later
    AT_CAP = "at_cap"  # max_workers
    IN_TIME = "in_time"  # it has waited for less than target_queue_time
    SCALING_UP = "scaling_up"  # another worker is wanted, and is not ordered yet

    __hash__ = object.__hash__
