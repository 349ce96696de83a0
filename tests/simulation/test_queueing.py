"""The dispatcher's simulator: seeds in which the rules of `nullworker.demand` hold."""

from __future__ import annotations

import pytest

from nullworker.simulation.queueing.run import run_seed


@pytest.mark.parametrize("seed", range(20, 40))
def test_the_world_of_a_seed_holds(seed: int) -> None:
    assert run_seed(seed).broken == ()
