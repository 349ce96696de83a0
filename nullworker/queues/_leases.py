"""The warning of adapters that cannot tell when a consumer counts as dead, because the URL does not say."""

from __future__ import annotations

from nullworker.queues.base import QueueWarning


def no_lease(parameter: str) -> QueueWarning:
    """The warning.

    Args:
        parameter: of the URL, which would say it.
    """
    return QueueWarning(
        "no-lease",
        "It is not known after how long a job may be taken from a consumer that seems dead, so that the job of a "
        f"worker that is lost waits until another job brings a worker: add &{parameter}=SECONDS to the URL.",
    )
