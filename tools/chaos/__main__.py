"""``make chaos``: each kind of fault some times, at random moments, and a table of what came of it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docs.tools import chaos_figures
from tools.chaos import machine, sandbox
from tools.chaos.faults import KINDS
from tools.chaos.record import ROOT, Record

#: No episode takes longer: what waits in one has limits of its own, which are shorter in all.
LIMIT_S = 300.0


class Run:
    """Episodes side by side, each in a process of its own."""

    def __init__(self, here: machine.Machine, record: Record | None) -> None:
        """Takes what the machine has, and where episodes are recorded."""
        self._here = here
        self._sandboxed = not here.missing.get("namespaces")
        self._record = record
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self.over = False
        self.took_s: dict[str, list[float]] = defaultdict(list)
        self.broken: dict[str, int] = defaultdict(int)

    def episode(self, kind: str, seed: int) -> None:
        """Runs one and says what broke; with anything, its folder stays."""
        if self.over:
            return
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="chaos-"))
        found = self._violations(kind, seed, folder)
        if found is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        with self._lock:
            self.took_s[kind].append(time.monotonic() - began)
            self.broken[kind] += bool(found)
            if self._record:
                self._record.add(kind, seed, self.took_s[kind][-1], found)
            for sentence in [*found, f"its folder: {folder}"] if found else ():
                print(f"  {kind} --seed {seed}: {sentence}", flush=True)
        if not found:
            shutil.rmtree(folder)

    def _violations(self, kind: str, seed: int, folder: Path) -> list[str] | None:
        """What broke; None: the run was interrupted."""
        words = [sys.executable, "-m", "tools.chaos.episode", kind, str(seed), str(folder)]
        words += ["redis" if self._here.redis else "none", str(self._here.old or "")]
        with subprocess.Popen(
            sandbox.command(words, sandboxed=self._sandboxed),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C comes to this process alone, which ends them
        ) as process:
            self._running.add(process)
            try:
                out, err = process.communicate(timeout=LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = "", f"the episode did not end within {LIMIT_S:g} s"
                process.communicate()
            finally:
                self._running.discard(process)
        if self.over:
            return None
        with contextlib.suppress(ValueError, IndexError):
            return list(json.loads(out.splitlines()[-1]))
        return [f"the episode itself failed: {(err.strip().splitlines() or ['no message'])[-1]}"]

    def end(self) -> None:
        """Ends what runs: with its first process, all processes, mounts and networks of an episode go."""
        self.over = True
        for process in list(self._running):
            if self._sandboxed:
                process.kill()
            else:
                process.terminate()  # it ends what it started itself

    def table(self, kinds: list[str]) -> str:
        """What came of it."""
        rows = [f"{'kind':<28} {'episodes':>8} {'broken':>6} {'seconds':>8}"]
        for kind in kinds:
            took_s = self.took_s[kind]
            mean_s = sum(took_s) / len(took_s) if took_s else 0.0
            rows.append(f"{kind:<28} {len(took_s):>8} {self.broken[kind]:>6} {mean_s:>8.1f}")
        episodes = sum(len(took_s) for took_s in self.took_s.values())
        rows.append(f"{episodes} episodes of {len(kinds)} kinds, {sum(self.broken.values())} broken")
        return "\n".join(rows)


def main() -> int:
    """Runs episodes; returns 1 if any promise broke."""
    parser = argparse.ArgumentParser(prog="python -m tools.chaos", description=__doc__)
    parser.add_argument("--episodes", type=int, default=1, help="of each kind  [default: 1]")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, help="of the first episode  [default: random]")
    parser.add_argument(
        "--jobs", type=int, default=2 * (os.cpu_count() or 1), help="episodes at once  [default: 2 a core]"
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no episode after so long")
    parser.add_argument("--old", default=machine.OLD, help="the earlier version, for git  [default: %(default)s]")
    parser.add_argument("--no-record", action="store_true", help="leave docs/chaos.json as it is")
    options = parser.parse_args()
    here = machine.look(options.old)
    kinds = [kind for kind in options.kind or KINDS if not any(here.missing.get(need) for need in KINDS[kind].needs)]
    for kind in options.kind or KINDS:
        for need in KINDS[kind].needs:
            if why := here.missing.get(need):
                print(f"{kind} is skipped: {why}")
    seed = random.randrange(1_000_000_000) if options.seed is None else options.seed
    run = Run(here, None if options.no_record else Record())
    began = time.monotonic()

    def one(kind: str, number: int) -> None:
        if time.monotonic() - began < 60.0 * options.minutes:
            run.episode(kind, number)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.default_int_handler)
    with ThreadPoolExecutor(options.jobs) as pool:
        episodes = [pool.submit(one, kind, seed + number) for number in range(options.episodes) for kind in kinds]
        try:
            for episode in episodes:
                episode.result()
        except BaseException as error:
            run.end()
            if not isinstance(error, KeyboardInterrupt):
                raise
    print(run.table(kinds))
    print(f"{time.monotonic() - began:.0f} s")
    if not options.no_record:
        chaos_figures.write()
    return 1 if run.over or any(run.broken.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
