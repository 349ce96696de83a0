"""The shipped code is Python 3.10's, whichever Python runs the tests; `make matrix` runs the tests on others."""

from __future__ import annotations

import ast
import subprocess

import pytest

from tools.pythons import ROOT, interpreter, supported

SHIPPED = sorted(path for top in ("nullworker", "workers") for path in (ROOT / top).rglob("*.py"))
COMPILES = """
import sys, warnings
warnings.simplefilter("error")
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        compile(file.read(), path, "exec")
"""


def test_the_oldest_supported_python_can_read_it() -> None:
    for path in SHIPPED:
        ast.parse(path.read_text(), str(path), feature_version=(3, 10))  # an error of syntax names the file


def test_what_the_metadata_says_of_python_is_one_thing() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert supported()[0] == "3.10"
    assert 'requires-python = ">=3.10"' in text
    assert 'target-version = "py310"' in text


@pytest.mark.parametrize("version", supported())
def test_each_python_that_is_here_compiles_it(version: str) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on this machine")
    subprocess.run([python, "-c", COMPILES, *SHIPPED], check=True, timeout=100)
