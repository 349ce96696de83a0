"""The walk through all states of small worlds behind ``nullworker simulate --exhaustive``."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from nullworker.cli.ending import noting_interrupts, starting_processes
from nullworker.cli.errors import UserError
from nullworker.cli.hunt import code_digest, cores

#: Of so many new states, one is followed until all is at rest.
SETTLES = 8
#: How often it is looked whether a signal has come.
LOOK_S = 0.2


def exhaustive(options: dict[str, Any]) -> int:
    """Walks through one scope or all; the exit code is 1 when a promise is broken, or something was never seen."""
    from nullworker.simulation.exhaustive.scope import SCOPES

    chosen = [options["scenario"]] if options["scenario"] else list(SCOPES)
    if chosen[0] not in SCOPES:
        raise UserError(f"There is no scope {chosen[0]}; there are {', '.join(SCOPES)}.")
    rows = []
    with (
        noting_interrupts() as interrupted,
        ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool,
    ):
        with starting_processes():
            walks = [pool.submit(_walk, name, options["states"]) for name in chosen]
        for walk in walks:
            while not interrupted.is_set() and not walk.done():
                wait({walk}, timeout=LOOK_S)
            if interrupted.is_set():
                for process in multiprocessing.active_children():
                    process.terminate()
                raise KeyboardInterrupt
            rows.append(walk.result())
            if not options["as_json"]:
                _show(rows[-1])
    if options["as_json"]:
        print(json.dumps(rows, indent=2))
    return 1 if any(row["broken"] or row["unseen"] for row in rows) else 0


def _walk(name: str, states_max: int) -> dict[str, Any]:
    from nullworker.simulation.exhaustive.scenario import said, scenario
    from nullworker.simulation.exhaustive.scope import SCOPES
    from nullworker.simulation.exhaustive.walk import walk

    scope = SCOPES[name]
    walked = walk(scope, states_max, SETTLES)
    found = walked.found
    row: dict[str, Any] = {
        "scope": name,
        "code": code_digest("queueing"),
        "states": walked.states,
        "transitions": walked.transitions,
        "depth": walked.depth,
        "settled": walked.settled,
        "settling_moves": walked.settling_moves,
        "cpu_s": round(walked.cpu_s, 1),
        "transitions_per_s": round(walked.transitions / max(walked.cpu_s, 1e-9)),
        "moves_per_s": round((walked.transitions + walked.settling_moves) / max(walked.cpu_s, 1e-9)),
        "unseen": [] if found is not None else walked.unseen,
        "broken": "",
    }
    if found is not None:
        path = Path(f"exhaustive-{name}.journal")
        try:
            path.write_text("\n".join(scenario(scope, found)) + "\n")
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(f"The journal {path} cannot be written ({reason}); run it in another folder.") from None
        row |= {
            "broken": f"{found.promise}: {found.message}",
            "moves": [said(move) for move in found.path],
            "root": found.root,
            "journal": str(path),
        }
    return row


def _show(row: dict[str, Any]) -> None:
    print(
        f"{row['scope']}: {row['states']:,} states, {row['transitions']:,} transitions, all to depth {row['depth']}, "
        f"{row['settled']:,} followed to rest, {row['cpu_s']} s"
    )
    if row["broken"]:
        print(f"  {row['broken']}")
        print(f"  from {row['root']}: {', '.join(row['moves'])}")
        print(f"  to repeat: nullworker replay {row['journal']}")
    elif row["unseen"]:
        print(f"  never seen, and must be sometimes: {', '.join(row['unseen'])}")
