"""Makes the journals of `journals`: ``python -m tests.simulation.record [NAME]...``.

For each planted bug (`mutations`) the seed that caught it (caught.json) is run and made short with the bug in the core.
Its events are then fed to the core with and without the bug, and where the two part, what the core without it does is
what must hold. A journal is written only if the core with the bug fails it and the core without passes.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.simulation.journals import (
    PLANTED,
    Decision,
    Journal,
    Must,
    decisions,
    replay,
    request_facts,
    save,
    steps,
    without_commands,
    worker_facts,
    wrong_with,
)
from tests.simulation.mutants import CAUGHT, planted
from tests.simulation.mutations import MUTATIONS, Mutation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: So many facts are named at most: the first that differ tell enough.
FACTS_MAX = 4
#: What `driver.CountedTimers` says of a core that reminds itself for ever.
STALLS = "without end"


class Moment(NamedTuple):
    """What a core did with one event, and what it knows after it."""

    decided: list[Decision]
    workers: dict[str, Any]
    requests: dict[str, Any]
    error: str = ""


def moments(lines: Iterable[str]) -> Iterator[Moment]:
    """What the core that is loaded now makes of each line; the last one is where it raises an error, if it does."""
    try:
        for engine, decided in steps(lines):
            yield Moment(
                decisions(decided),
                {str(number): worker_facts(engine, number) for number in engine.state.workers},
                {str(number): request_facts(engine, number) for number in engine.state.reservations},
            )
    except Exception as error:
        yield Moment([], {}, {}, f"{type(error).__name__}: {error}")


def decisive(healthy: Sequence[Moment], buggy: Sequence[Moment]) -> tuple[int, Must] | None:
    """The moment at which it shows that something is wrong, and what must hold there; None: it does not show.

    That is the last one, where the bug's last decision is one that the healthy core does not take; else the first at
    which they decide otherwise; else the last one, where they know something else.
    """
    last = len(buggy) - 1
    if buggy[last].error:
        return last, Must()
    if not _never(healthy[last], buggy[last]):
        last = next((i for i in range(last + 1) if healthy[i].decided != buggy[i].decided), last)
    never = _never(healthy[last], buggy[last])
    named = {str(number) for _, ids in never for name, number in ids if name == "worker_id"}
    workers = _differing(healthy[last].workers, buggy[last].workers, named)
    requests = {} if never else _differing(healthy[last].requests, buggy[last].requests, set())
    if never or workers or requests:
        return last, Must(never=tuple(never), workers=workers, requests=requests)
    always = _never(buggy[last], healthy[last])
    return (last, Must(always=tuple(always))) if always else None


def _never(healthy: Moment, buggy: Moment) -> list[Decision]:
    return [decision for decision in buggy.decided if decision not in healthy.decided]


def _differing(healthy: dict[str, Any], buggy: dict[str, Any], named: set[str]) -> dict[str, Any]:
    differ = [key for key in sorted(healthy | buggy, key=int) if healthy.get(key) != buggy.get(key)]
    if named:
        differ = [key for key in differ if key in named]
    return {key: healthy.get(key) for key in differ[:FACTS_MAX]}


def record(mutation: Mutation) -> str:
    """Makes the journal of one planted bug; what to print about it."""
    caught = json.loads(CAUGHT.read_text())[mutation.name]
    with planted(mutation) as run:
        failed = run(caught["seed"])
        if STALLS not in failed.failure.message:  # each try would take as long as a loop without end is let go on
            failed = importlib.import_module("nullworker.simulation.shrink").shrink(failed)
        shown = run(failed.seed, failed.scenario, failed.reduction, journal=True, check_every=1)
        lines = [without_commands(line) for line in shown.journal]
        buggy = list(moments(lines))
    found = decisive(list(moments(lines)), buggy)
    if found is None:
        return f"{mutation.name}: the bug does not show in {len(lines)} events"
    last, must = found
    journal = Journal(
        name=mutation.name,
        about=f"planted: {mutation.name}",
        broke=shown.failure.promise,
        said=shown.failure.message.splitlines()[0],
        world=shown.failure.repeat,
        must=must,
        lines=tuple(lines[: last + 1]),
    )
    with planted(mutation):
        bites = fails(journal)
    if not bites or fails(journal):
        return f"{mutation.name}: with the bug {bites}, without {fails(journal)}"
    size = save(journal, PLANTED).stat().st_size
    return f"{mutation.name}: {len(journal.lines)} events, {size} bytes; {bites[0][:150]}"


def fails(journal: Journal) -> list[str]:
    """What is wrong when the core that is loaded now is fed with it."""
    try:
        return wrong_with(journal.must, *replay(journal.lines))
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def main(names: Sequence[str]) -> int:
    """Records all (or those named); the exit code says whether one could not be."""
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for told in pool.map(record, chosen):
            print(told, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
