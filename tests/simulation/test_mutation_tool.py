"""`python -m tools.mutation` draws mistakes of all kinds in all modules, and can both catch and miss."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from docs.tools.mutation_equivalent import EQUIVALENT
from docs.tools.mutation_figures import NETS, RECORD, generated, held_out, planted
from tests.simulation.mutations import HELD_OUT
from tests.simulation.plants import ROOT, planted_trees
from tools.mutation.draw import Mutant, draw, every_mutant

if TYPE_CHECKING:
    from tools.mutation.trial import Verdict

CAUGHT = "the worker that is free longest serves next"
#: Entries of `order` whose waiter has gone are passed over when they come up.
MISSED = "waiting_line:WaitingLine.remove: self.order.clear() → (removed)"


def mutation(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.mutation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def verdicts(of: str, *arguments: str) -> dict[str, Verdict]:
    few = ("--tests", "tests/unit/core/test_routing.py", "--seeds", "3", "--states", "100")
    ran = mutation(*arguments, "--only", of, *few, "--json")
    assert ran.returncode == 0, ran.stderr
    known = json.loads(ran.stdout)
    found: dict[str, Verdict] = {**known["planted"], **known["generated"]}[of]
    return found


def test_it_catches() -> None:
    caught = verdicts(CAUGHT, "--planted", "--net", "unit")["unit"]
    assert caught is not None
    assert caught["test"].startswith("tests/unit/core/")


@pytest.mark.long
def test_it_misses() -> None:
    found = verdicts(MISSED, "--seed", "1", "--count", "100000")
    assert [found[net] for net in ("unit", "simulator", "exhaustive")] == [None, None, None]


def test_it_draws_the_same_by_the_same_seed_and_from_each_module() -> None:
    every = every_mutant()
    assert len({mutant.name for mutant in every}) == len(every) > 2000
    drawn = draw(7, 50)
    assert draw(7, 50) == drawn != draw(8, 50)
    assert {mutant.module for mutant in drawn} == {mutant.module for mutant in every}
    assert len({mutant.kind for mutant in every}) == 10


def test_a_mutant_is_one_small_change_of_its_module() -> None:
    mutant = next(mutant for mutant in every_mutant() if mutant.name == MISSED)
    ((place, tree),) = mutant.planted().items()
    assert place.module == "nullworker.core.waiting_line"
    sound = ast.unparse(ast.parse(place.path.read_text()))
    assert sound.replace(
        "if not self.waiting:\n            self.order.clear()", "if not self.waiting:\n            pass"
    ) == (ast.unparse(tree))


def test_bugs_that_others_planted_can_still_be_planted() -> None:
    assert all(len(planted_trees(bug)) == 1 for bug in HELD_OUT)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_bugs_that_others_planted_are_noticed_by_the_test_that_noticed_them() -> None:
    ran = mutation("--verify", "--held-out", "--keep", str(RECORD))
    again = "after a change: python -m tools.mutation --planted --net unit --missed unit --keep docs/mutation.json"
    assert ran.returncode == 0, f"{ran.stderr}\n{again}"


@pytest.mark.parametrize("net", ["unit", "simulator"])
def test_at_least_fifty_were_tried(net: str) -> None:
    assert sum(net in entry for entry in generated().values()) >= 50


def test_what_nothing_notices_is_argued_to_be_no_mistake() -> None:
    bugs = {**planted(), **held_out(), **generated()}
    assert {name for name, entry in bugs.items() if not any(entry.get(net) for net in NETS)} == set(EQUIVALENT)


def test_a_mutant_whose_code_is_gone_says_so() -> None:
    gone = Mutant("routing", "assign", "constant", "1", "2", 1)
    with pytest.raises(ValueError, match="not there any more"):
        gone.planted()


def test_it_says_what_it_wants() -> None:
    ran = mutation("--net", "unit")
    assert ran.returncode == 2
    assert "say which bugs" in ran.stderr
