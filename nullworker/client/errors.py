"""What can go wrong between asking for a worker and giving it back. Each message is one sentence that says what to do.

ClientError
├── InstanceInvalidError     no such engine can exist
├── KeyMissingError          no API key, or one that cannot be sent
├── KeyRefusedError          the engine does not take the key
├── EndpointUnknownError     the engine has no endpoint of that name
├── EngineUnreachableError   nothing answers, or not for too long
├── EngineRefusedError       the engine answers with an error that a retry does not change
├── CertificateUnavailableError  the engine's root certificate cannot be loaded
├── NoWorkerInTimeError      the caller's deadline passed first
├── WorkerRefusedError       the worker that the engine named does not take the reservation
├── WorkerUnreachableError   it could not be asked, and may hold the reservation still
├── ReservationLostError     it is not held any more
├── ReleaseUnconfirmedError  it was to be given back, and its worker did not confirm that
└── RecordInvalidError       not what ``Reservation.to_record`` gave
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.wire.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN_MAX = 300  # characters of a foreign text in a message: a sentence, not a page of HTML
NAMES_MAX = 10  # endpoint names in a message


class ClientError(Exception):
    """Any failure of the client that its user can do something about."""


class InstanceInvalidError(ClientError):
    """The name of an engine is neither one of Vast's nor a URL."""

    def __init__(self, instance: str) -> None:
        super().__init__(
            f"There is no instance {shortened(instance)!r}: give prod, alpha, candidate, local "
            "or the engine's URL (http://host:port)."
        )


class KeyMissingError(ClientError):
    """No API key was found, or the one that was found cannot be sent."""


class KeyRefusedError(ClientError):
    """The engine answered 401 or 403."""

    def __init__(self, engine: str, detail: str = "", *, is_of_environment: bool = False) -> None:
        advice = "set VAST_API_KEY, or give the key, to one that is allowed to use this endpoint"
        if is_of_environment:
            advice = "it is the one in VAST_API_KEY; unset that, and the key that a local engine keeps is used"
        super().__init__(f"The engine at {engine} refuses the API key{_said(detail)}: {advice}.")


class EndpointUnknownError(ClientError):
    """The engine has no endpoint of that name for this key. ``known`` names those that there are; None: not asked."""

    def __init__(self, engine: str, endpoint: str, known: Sequence[str] | None = None) -> None:
        super().__init__(f"The engine at {engine} has no endpoint {shortened(endpoint)!r}: {_choice(known)}.")
        self.endpoint = endpoint
        self.known = tuple(known or ())


class EngineUnreachableError(ClientError):
    """Nothing answers at the engine's address, or it failed for longer than the caller waits."""

    def __init__(self, engine: str, detail: str, *, silent_s: float = 0.0) -> None:
        self.detail = detail
        since = f" for {silent_s:.0f} s" if silent_s >= 1 else ""
        super().__init__(
            f"The engine at {engine} does not answer{since}{_said(detail)}: start it, or correct its address."
        )


class EngineRefusedError(ClientError):
    """The engine's answer is an error, or makes no sense, and will be the same next time."""

    def __init__(self, engine: str, detail: str) -> None:
        super().__init__(
            f"The engine at {engine} refuses the request{_said(detail)}: correct it, or see that both sides are of "
            "versions that fit."
        )


class CertificateUnavailableError(ClientError):
    """The root certificate, which is loaded before the first call, cannot be loaded."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(
            f"No root certificate could be loaded from {url}{_said(detail)}: see that an engine answers there, "
            "not some other server."
        )


class NoWorkerInTimeError(ClientError):
    """The deadline passed while the engine had no worker to give."""

    def __init__(self, endpoint: str, waited_s: float, reason: str = "") -> None:
        advice = "wait longer, or ask `nullworker explain` about the endpoint"
        if "max_workers" in reason:
            advice = "wait longer, or raise the endpoint's max_workers"
        asked = f"No worker of {shortened(endpoint)!r} became free within {waited_s:.0f} s"
        super().__init__(f"{asked}{_said(reason)}: {advice}.")
        self.reason = reason


class WorkerRefusedError(ClientError):
    """The worker answered the reservation with an error that is not "occupied"."""

    def __init__(self, url: str, status: int, detail: str = "") -> None:
        super().__init__(
            f"The worker at {url} refuses the reservation with HTTP {status}{_said(detail)}: look into its log."
        )
        self.status = status


class WorkerUnreachableError(ClientError):
    """The worker could not be asked; the reservation may still be held."""

    def __init__(self, url: str, detail: str) -> None:
        super().__init__(f"The worker at {url} does not answer{_said(detail)}: try again, it may still be held.")


class ReservationLostError(ClientError):
    """The reservation is not held any more: its worker ended it, or is gone."""

    def __init__(self, session_id: str, url: str, detail: str = "") -> None:
        super().__init__(f"Reservation {session_id} on {url} is over{_said(detail)}: open a new one.")


class ReleaseUnconfirmedError(ClientError):
    """The worker did not confirm that the reservation has ended; it ends by itself when its lifetime runs out."""

    def __init__(self, session_id: str, url: str, lifetime_s: float, detail: str) -> None:
        super().__init__(
            f"The worker at {url} did not confirm the release of {session_id}{_said(detail)}: nothing to do, it frees "
            f"itself within {2 * lifetime_s:.0f} s."
        )


class RecordInvalidError(ClientError):
    """The record to adopt is not what ``Reservation.to_record`` gave."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"This record holds no reservation ({detail}): open a new one.")


def _choice(known: Sequence[str] | None) -> str:
    if known is None:
        return "create it, or give another one's name"
    if not known:
        return "it has none for this key, so create one first"
    more = f" and {len(known) - NAMES_MAX} more" if len(known) > NAMES_MAX else ""
    return "give one of those it has, " + ", ".join(shortened(name, 60) for name in sorted(known)[:NAMES_MAX]) + more


def shortened(text: str, length_max: int = SHOWN_MAX) -> str:
    """``text`` on one line of printable characters, cut to ``length_max``: it may come from any server."""
    beginning = text[: length_max * 4]  # the rest would be cut off anyway
    line = one_line(beginning)
    return line if len(line) <= length_max else line[: length_max - 1] + "…"


def _said(detail: str) -> str:
    text = shortened(detail).rstrip(" .:")
    return f" ({text})" if text else ""
