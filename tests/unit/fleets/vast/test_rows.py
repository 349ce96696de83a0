"""What a listed instance means."""

from __future__ import annotations

from typing import Any

import pytest

from nullworker.fleets.vast.rows import Phase, phase_of, row_of, why_ended

RUNS = {"id": 5, "label": "nw-mark-1-0a", "actual_status": "running", "cur_state": "running"}


@pytest.mark.parametrize(
    ("actual", "cur", "intended", "phase"),
    [
        (None, "running", "running", Phase.COMING),
        ("loading", "running", "running", Phase.COMING),
        ("created", "running", "running", Phase.COMING),
        ("unknown", "running", "running", Phase.COMING),
        ("rebooting", "running", "running", Phase.COMING),
        ("running", "running", "running", Phase.RUNS),
        ("exited", "running", "running", Phase.HALTED),
        ("exited", "stopped", "running", Phase.SCHEDULED),
        (None, "stopped", "running", Phase.SCHEDULED),
        ("stopped", "stopped", "stopped", Phase.HALTED),
        ("exited", "stopped", "stopped", Phase.HALTED),
        ("offline", "running", "running", Phase.OFFLINE),
        ("offline", "stopped", "stopped", Phase.OFFLINE),
        ("a new word", None, None, Phase.COMING),
    ],
)
def test_three_words_of_vast_are_one_phase(actual: Any, cur: Any, intended: Any, phase: Phase) -> None:
    raw = {**RUNS, "actual_status": actual, "cur_state": cur, "intended_status": intended}
    row = row_of(raw, 3000)
    assert row is not None
    assert phase_of(row) is phase


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cur_state": "stopped", "is_bid": True}, "another bid more for its machine, or its host took it back"),
        ({"cur_state": "stopped", "is_bid": False}, "its host has given its GPU to others"),
        ({"intended_status": "stopped"}, "it was stopped, and not by this engine: its worker has ended, or someone"),
        ({"actual_status": "exited", "status_msg": "OCI\nerror."}, "its container has ended (OCI error)"),
        ({"actual_status": "exited"}, "its container has ended"),
        ({"actual_status": "offline"}, "its host has lost its connection to Vast"),
    ],
)
def test_why_one_has_ended(changes: dict[str, Any], said: str) -> None:
    row = row_of({**RUNS, "intended_status": "running", **changes}, 3000)
    assert row is not None
    assert why_ended(row).startswith(said)


def test_what_is_read_of_an_instance() -> None:
    raw = {
        **RUNS,
        "dph_total": 0.31,
        "storage_total_cost": 0.01,
        "machine_id": 7,
        "public_ipaddr": "10.0.0.1\n",
        "ports": {"3000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40001"}]},
        "extra_env": [["NULLWORKER_WORKER", "1"], ["odd"], 7],
    }
    row = row_of(raw, 3000)
    assert row is not None
    assert row.price_per_hour == pytest.approx(0.30), "without storage, which is counted beside it"
    assert (row.storage_price_per_hour, row.machine_id, row.address) == (0.01, 7, "10.0.0.1:40001")
    assert row.environment == {"NULLWORKER_WORKER": "1"}


@pytest.mark.parametrize("raw", [None, 7, [], {}, {"id": "5"}, {"id": True}, {"id": 5.5}])
def test_what_is_no_instance_is_none(raw: object) -> None:
    assert row_of(raw, 3000) is None


@pytest.mark.parametrize(
    "ports", [None, [], {}, {"3000/tcp": []}, {"3000/tcp": [{}]}, {"3000/tcp": [{"HostPort": "x"}]}]
)
def test_an_address_that_is_not_there_is_empty(ports: object) -> None:
    row = row_of({**RUNS, "public_ipaddr": "10.0.0.1", "ports": ports, "dph_total": -1, "extra_env": None}, 3000)
    assert row is not None
    assert (row.address, row.price_per_hour, row.storage_price_per_hour) == ("", None, None)
