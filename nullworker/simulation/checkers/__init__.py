"""The promises, checked against the truth of the world and not against the engine's own tables; one file a promise.

`evidence` comes first: it notes what the engine was told and what it granted. Nothing but that, and what truly is in
the world (`simulation.truth`), excuses what the engine does: no checker reads the sentence that a command carries,
other than to show it. P1 to P16 follow; docs/promises.md says what each of them promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.simulation.checkers.evidence import Evidence
from nullworker.simulation.checkers.p01_exclusive import Exclusive
from nullworker.simulation.checkers.p02_no_kill import NoKill
from nullworker.simulation.checkers.p03_n_get_n import NGetN
from nullworker.simulation.checkers.p04_no_waste import NoWaste
from nullworker.simulation.checkers.p05_to_zero import ToZero
from nullworker.simulation.checkers.p06_cap import Cap
from nullworker.simulation.checkers.p07_order import Order
from nullworker.simulation.checkers.p08_gone import Gone
from nullworker.simulation.checkers.p09_no_leak import NoLeak
from nullworker.simulation.checkers.p10_reports import Reports
from nullworker.simulation.checkers.p11_restart import Restart
from nullworker.simulation.checkers.p12_bounded import Bounded, Pauses
from nullworker.simulation.checkers.p13_reasons import Reasons
from nullworker.simulation.checkers.p14_baseline import Baseline
from nullworker.simulation.checkers.p15_authentic import Authentic
from nullworker.simulation.checkers.p16_cheaper_first import CheaperFirst

if TYPE_CHECKING:
    from nullworker.simulation.observer import Checker
    from nullworker.simulation.truth import Truth


def all_checkers(truth: Truth) -> list[Checker]:
    """One of each, in the order in which they are told."""
    evidence = Evidence(truth)
    return [
        evidence,
        Exclusive(truth, evidence),
        NoKill(truth, evidence),
        NGetN(truth),
        NoWaste(truth),
        ToZero(truth, evidence),
        Cap(truth, evidence),
        Order(truth, evidence),
        Gone(truth),
        NoLeak(truth, evidence),
        Reports(truth, evidence),
        Restart(truth, evidence),
        Bounded(truth, evidence),
        Pauses(truth),
        Reasons(truth),
        Baseline(truth),
        Authentic(truth),
        CheaperFirst(truth, evidence),
    ]
