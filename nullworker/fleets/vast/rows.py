"""An instance as Vast lists it, and what that means: pure functions. Times are Unix times, money is dollars an hour."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nullworker.fleets.vast.offers import number, storage_per_hour
from nullworker.fleets.vast.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Vast's words for a container that does not run.
_HALTED = frozenset({"exited", "stopped"})


class Phase(enum.Enum):
    """What an instance does."""

    COMING = "coming"  # its machine is got ready, or its state is not known: it is on its way to run
    RUNS = "runs"
    SCHEDULED = "scheduled"  # it is to run, and has no machine: all are taken, or another bids more
    HALTED = "halted"
    OFFLINE = "offline"  # its host has lost its connection to Vast


@dataclass(frozen=True, slots=True)
class Row:
    """What is read of an instance."""

    contract_id: int
    label: str
    actual_status: str  # of the container; "": it is being provided
    cur_state: str  # of the contract
    intended_status: str
    status_msg: str
    is_bid: bool
    price_per_hour: float | None  # without storage
    storage_price_per_hour: float | None
    machine_id: int
    host_id: int
    address: str  # host:port of the worker; "": not known
    ends_at: float | None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def row_of(raw: object, worker_port: int) -> Row | None:
    """An instance out of Vast's answer; None where it is not as documented.

    Args:
        raw: the answer.
        worker_port: the port that the worker listens on inside.
    """
    if not isinstance(raw, dict):
        return None
    contract_id = raw.get("id")
    if not isinstance(contract_id, int) or isinstance(contract_id, bool):
        return None
    total = number(raw, "dph_total")
    has_storage = number(raw, "storage_total_cost") is not None or number(raw, "storage_cost") is not None
    storage = storage_per_hour(raw, number(raw, "disk_space") or 0.0) if has_storage else None
    return Row(
        contract_id=contract_id,
        label=_text(raw, "label"),
        actual_status=_text(raw, "actual_status"),
        cur_state=_text(raw, "cur_state"),
        intended_status=_text(raw, "intended_status"),
        status_msg=_text(raw, "status_msg"),
        is_bid=raw.get("is_bid") is True,
        price_per_hour=None if total is None or total < 0 else max(0.0, total - (storage or 0.0)),
        storage_price_per_hour=storage,
        machine_id=int(number(raw, "machine_id") or 0),
        host_id=int(number(raw, "host_id") or 0),
        address=_address(raw, worker_port),
        ends_at=number(raw, "end_date"),
        environment=_environment(raw.get("extra_env")),
    )


def phase_of(row: Row) -> Phase:
    """What an instance does."""
    if row.actual_status == "offline":
        return Phase.OFFLINE
    if row.cur_state == "stopped":
        return Phase.SCHEDULED if row.intended_status == "running" else Phase.HALTED
    if row.actual_status in _HALTED:
        return Phase.HALTED
    return Phase.RUNS if row.actual_status == "running" else Phase.COMING


def why_ended(row: Row) -> str:
    """How an instance ended that no one here has stopped, as the end of a sentence."""
    if phase_of(row) is Phase.SCHEDULED:
        if row.is_bid:
            return "another bid more for its machine, or its host took it back"
        return "its host has given its GPU to others"
    if row.intended_status == "stopped":
        return "it was stopped, and not by this engine: its worker has ended, or someone stopped it"
    if row.actual_status == "offline":
        return "its host has lost its connection to Vast"
    return f"its container has ended ({quoted(row.status_msg)})" if row.status_msg else "its container has ended"


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _address(raw: Mapping[str, Any], worker_port: int) -> str:
    host, ports = _text(raw, "public_ipaddr").strip(), raw.get("ports")
    try:
        port = int(ports[f"{worker_port}/tcp"][0]["HostPort"])  # type: ignore[index]
    except (KeyError, IndexError, TypeError, ValueError):
        return ""
    return f"{host}:{port}" if host else ""


def _environment(raw: object) -> dict[str, str]:
    """The variables of an instance, which Vast lists as pairs."""
    pairs = raw.items() if isinstance(raw, dict) else raw if isinstance(raw, list) else ()
    return {
        str(pair[0]): str(pair[1])
        for pair in pairs
        if isinstance(pair, (list, tuple)) and len(pair) == 2 and all(isinstance(each, str) for each in pair)
    }
