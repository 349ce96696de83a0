"""The compiled soak: what it compiles is our code, and does the same."""

from __future__ import annotations

import ast
import json
import shutil
import sysconfig
from pathlib import Path

import pytest

from nullworker.cli.hunt import code_digest
from nullworker.simulation.run import run
from tools.compiled_soak import CHANGES, ROOT, SIMULATOR, changed, compile_into, run_seeds, soak

PACKAGE = ROOT / "nullworker"
CAN_COMPILE = shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


def _sources() -> dict[Path, str]:
    return {path: path.read_text() for path in PACKAGE.rglob("*.py")}


def test_every_line_that_is_changed_is_there() -> None:
    sources = _sources()
    new = changed(PACKAGE, sources)
    for name, _, _ in CHANGES:
        assert new[PACKAGE / name] != sources[PACKAGE / name], name
    for path, text in new.items():
        ast.parse(text, path)
    assert set(new) - set(sources) == {PACKAGE / "interpreted.py"}


def test_a_line_that_is_gone_is_named() -> None:
    sources = _sources()
    sources[PACKAGE / "core" / "timers.py"] = ""
    with pytest.raises(SystemExit, match=r"core/timers\.py has no line like .*class Timers"):
        changed(PACKAGE, sources)


def test_every_module_that_is_named_is_there() -> None:
    assert [name for name in SIMULATOR if not (PACKAGE / "simulation" / f"{name}.py").is_file()] == []


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(not CAN_COMPILE, reason="needs a C compiler and Python's headers (Debian: gcc, python3-dev)")
def test_compiled_or_not_a_seed_has_the_same_events_and_a_soak_runs(tmp_path: Path) -> None:
    compile_into(tmp_path)
    assert list(tmp_path.glob("nullworker/core/engine.*.so"))
    assert (tmp_path / "nullworker/core/timers.py").read_text() == (PACKAGE / "core/timers.py").read_text()
    assert run_seeds(tmp_path, 20) == [run(seed).events for seed in range(1, 21)]
    (tmp_path / "docs").mkdir()
    assert soak(tmp_path, 0.01) == 0
    record = json.loads((tmp_path / "docs" / "soak.json").read_text())
    assert record["code"] == code_digest()
    assert record["seeds"] > 0
