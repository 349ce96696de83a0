"""``python -m tools.compiled_soak --minutes 30``: a soak whose core and simulator are compiled: twice as many seeds.

A copy of the package is made in a temporary directory, core and simulator are compiled there by mypyc (of mypy, which
`make check` installs anyway; a C compiler and Python's headers are needed, too), and ``nullworker simulate --soak``
runs on the copy. Its figures go into ``docs/soak.json`` of this clone.

mypyc cannot compile a few lines as they are: `CHANGES` has what is written in their place, of equal meaning. After the
compilation the copy's sources are put back, so that the record's digest is that of the code in this clone. Before the
soak, `SAME_SEEDS` seeds are run by both, and must come to equal numbers of events.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: The modules of the simulator that are compiled, beside all of the core and of the checkers: what runs for
#: each event.
SIMULATOR = (
    "clients",
    "context",
    "driver",
    "event_queue",
    "fault_injector",
    "faults",
    "fleet",
    "hooks",
    "network",
    "observer",
    "outcome",
    "process",
    "store",
    "truth",
    "world",
)

_NOT_NATIVE = "@mypy_extensions.mypyc_attr(native_class=False)\n"
_INHERITED = "@mypy_extensions.mypyc_attr(allow_interpreted_subclasses=True)\n"
_AN_EXCEPTION = r"^(?=class \w+\(AssertionError\))"

#: What mypyc cannot compile, and what is compiled in its place: file, pattern, replacement.
CHANGES = (
    # A starred part of a tuple.
    (
        "core/reconcile/report_order.py",
        r"not in \(self\.loadtime_s, \*self\.loadtimes_before\)",
        "not in ((self.loadtime_s,) + tuple(self.loadtimes_before))",
    ),
    # By its stub, a frozenset and a view of keys make a frozenset. They make a set, and compiled code refuses that.
    (
        "simulation/checkers/evidence.py",
        r"known\.listed & known\.refused_at\.keys\(\)",
        "known.listed & frozenset(known.refused_at)",
    ),
    # A class is native, which a class of builtins and one with interpreted children cannot be.
    ("core/invariants.py", _AN_EXCEPTION, _NOT_NATIVE),
    ("simulation/event_queue.py", _AN_EXCEPTION, _NOT_NATIVE),
    ("simulation/observer.py", _AN_EXCEPTION, _NOT_NATIVE),
    ("core/timers.py", r"^(?=class Timers)", _INHERITED),
    ("simulation/hooks.py", r"^(?=class Hooks)", _INHERITED),
    # The methods of a native object cannot be replaced, and the observer replaces its own: it stays interpreted.
    (
        "simulation/world.py",
        r"nullworker\.simulation\.observer import Observer",
        "nullworker.interpreted import Observer",
    ),
)

#: Where a module names a class that it imports for annotations alone, mypyc's module writes down a null pointer.
HEADER = """\
#include <Python.h>
static inline int set_item_or_none(PyObject *of, PyObject *key, PyObject *value) {
    return PyDict_SetItem(of, key, value ? value : Py_None);
}
#define PyDict_SetItem set_item_or_none
"""

SETUP = """\
from mypyc.build import mypycify
from setuptools import setup

setup(name="compiled", packages=[], ext_modules=mypycify({arguments!r}, opt_level="2"))
"""

#: How many seeds must come to the same, compiled and not.
SAME_SEEDS = 100
RUN_SEEDS = """\
import json, sys
from nullworker.simulation.run import run
print(json.dumps([run(seed).events for seed in range(1, int(sys.argv[1]) + 1)]))
"""


def main(arguments: list[str] | None = None) -> int:
    """Compiles, compares, soaks; ends with the soak's exit code, and 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        description="A soak whose core and simulator are compiled by mypyc.",
        epilog="example: python -m tools.compiled_soak --minutes 30",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to soak (default: 10)")
    minutes = parser.parse_args(arguments).minutes
    if not minutes > 0:
        parser.error("--minutes must be more than 0")
    try:
        return _soak(minutes)
    except KeyboardInterrupt:
        return 130  # what the soak had finished is in the record


def _soak(minutes: float) -> int:
    with tempfile.TemporaryDirectory(prefix="nullworker-compiled-") as temporary:
        copy = Path(temporary)
        print("compiling: two minutes, at least", file=sys.stderr, flush=True)
        compile_into(copy)
        if run_seeds(ROOT, SAME_SEEDS) != run_seeds(copy, SAME_SEEDS):
            print("Compiled, a seed does not come to the same number of events; nothing was run.", file=sys.stderr)
            return 1
        (copy / "docs").symlink_to(ROOT / "docs")  # the record
        return soak(copy, minutes)


def soak(folder: Path, minutes: float) -> int:
    """Soaks with the package that is in ``folder``, and adds to its ``docs/soak.json``; the exit code."""
    return _python(folder, "-m", "nullworker.cli.main", "simulate", "--soak", "--minutes", str(minutes)).returncode


def run_seeds(folder: Path, seeds: int) -> list[int]:
    """How many events each of the first seeds has, with the package that is in ``folder``."""
    return list(json.loads(_python(folder, "-c", RUN_SEEDS, str(seeds), output=subprocess.PIPE).stdout))


def _python(folder: Path, *arguments: str, output: int | None = None) -> subprocess.CompletedProcess[str]:
    """Runs Python with the package that is in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, stdout=output, text=True, check=output is not None
    )


def compile_into(folder: Path) -> None:
    """Copies the package into ``folder`` and compiles core and simulator there; the sources are as before in the end.

    Raises:
        SystemExit: a line that `CHANGES` names is not there any more, or the compiler fails.
    """
    package = folder / "nullworker"
    shutil.copytree(ROOT / "nullworker", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    modules = sorted(package.joinpath("core").rglob("*.py"))
    modules += [package / "simulation" / f"{name}.py" for name in SIMULATOR]
    modules += sorted(package.joinpath("simulation", "checkers").glob("*.py"))
    before = {path: path.read_text() for path in package.rglob("*.py")}
    for path, text in changed(package, before).items():
        path.write_text(text)
    (folder / "fix.h").write_text(HEADER)
    names = [str(path.relative_to(folder)) for path in modules]
    (folder / "setup.py").write_text(SETUP.format(arguments=["--ignore-missing-imports", *names]))
    build = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, "CFLAGS": f"-include {folder / 'fix.h'} -g0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if build.returncode:
        advice = "The core could not be compiled (it takes a C compiler and Python's headers: gcc and python3-dev)."
        raise SystemExit("\n".join([*build.stdout.splitlines()[-20:], advice]))
    for path, text in before.items():
        path.write_text(text)


def changed(package: Path, sources: dict[Path, str]) -> dict[Path, str]:
    """The sources as mypyc compiles them.

    Args:
        package: where the package is.
        sources: all of its files, by path.

    Raises:
        SystemExit: a line that `CHANGES` names is not there any more.
    """
    new = {path: re.sub(r"slots=True, |,? ?slots=True(?=\))", "", text) for path, text in sources.items()}
    for name, pattern, replacement in CHANGES:
        text, times = re.subn(pattern, replacement, new[package / name], flags=re.MULTILINE)
        if not times:
            raise SystemExit(f"{name} has no line like {pattern}; CHANGES of tools/compiled_soak.py is to be adapted.")
        if replacement.startswith("@"):
            text = text.replace("import annotations\n", "import annotations\nimport mypy_extensions\n", 1)
        new[package / name] = text
    observer = package / "simulation" / "observer.py"
    new[observer], class_, rest = new[observer].partition("class Observer(Hooks)")
    imports = sources[observer].partition("class ")[0] + "from nullworker.simulation.observer import Checker\n"
    new[package / "interpreted.py"] = imports + class_ + rest
    return new


if __name__ == "__main__":
    sys.exit(main())
