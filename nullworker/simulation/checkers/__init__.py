"""The promises, checked against the truth of the world and not against the engine's own tables; one file a promise.

`evidence` comes first: it notes what the engine was told and what it promised, which is all that may excuse it.
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

if TYPE_CHECKING:
    from nullworker.simulation.watch import Checker
    from nullworker.simulation.world import World


def all_checkers(world: World) -> list[Checker]:
    """One of each, in the order in which they are told."""
    evidence = Evidence(world)
    return [
        evidence,
        Exclusive(world, evidence),
        NoKill(world, evidence),
        NGetN(world),
        NoWaste(world),
        ToZero(world),
        Cap(world, evidence),
        Order(world, evidence),
        Gone(world),
        NoLeak(world, evidence),
        Reports(world),
        Restart(world, evidence),
        Bounded(world),
        Pauses(world),
        Reasons(world),
        Baseline(world),
        Authentic(world),
    ]
