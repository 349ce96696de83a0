"""Rules of style that no linter has: unfinished marks, long files, sleeping tests, dead links, words that we avoid.

Each rule is one test that names all places where it is broken: a test for each of 700 files and rule took longer to be
counted than to be run.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
IN_THE_ROOT = {
    *(".gitignore", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("Makefile", "pyproject.toml", "requirements.txt", "start_server.sh"),
}
SHIPPED = [*sorted((ROOT / "nullworker").rglob("*.py")), *sorted((ROOT / "workers").rglob("*.py"))]
UNIT = [*sorted((ROOT / "tests/unit").rglob("*.py")), *sorted((ROOT / "tests/simulation").rglob("*.py"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def text_of(path: Path) -> str:
    return path.read_text()


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text_of(path))))


def line_of(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1


def test_a_shipped_file_is_finished() -> None:
    found = [f"{name(path)}: {match[0]}" for path in SHIPPED for match in UNFINISHED.finditer(text_of(path))]
    assert found == []


def test_a_shipped_file_is_of_a_readable_length() -> None:
    assert [name(path) for path in SHIPPED if text_of(path).count("\n") > FILE_LINES_MAX] == []


def test_a_function_fits_on_a_screen() -> None:
    found = []
    for path in SHIPPED:
        for node in nodes_of(path):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0]
                lines = (node.end_lineno or first.lineno) - first.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    found.append(f"{name(path)}: {node.name} has {lines} lines")
    assert found == []


def test_a_module_says_what_it_is_for() -> None:
    silent = [path for path in SHIPPED if text_of(path).strip() and not ast.get_docstring(ast.parse(text_of(path)))]
    assert [name(path) for path in silent] == []


def test_a_time_limit_loses_no_cancellation() -> None:
    """`asyncio.wait_for` does, on Python 3.10 and 3.11; `nullworker.wire.timeouts.within` does not."""
    found = [
        f"{name(path)}: line {node.lineno}"
        for path in SHIPPED
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and node.attr == "wait_for" and ast.unparse(node) == "asyncio.wait_for"
    ]
    assert found == []


def test_a_task_is_started_where_its_failure_is_seen() -> None:
    """By `nullworker.wire.tasks`, and nowhere else."""
    found = []
    for path in SHIPPED:
        if path.name == "tasks.py" and path.parent.name == "wire":
            continue
        for node in nodes_of(path):
            named = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            if named in ("create_task", "ensure_future", "TaskGroup"):
                found.append(f"{name(path)}: line {getattr(node, 'lineno', 0)}: {named}")
    assert found == []


def test_unit_and_simulation_tests_never_sleep() -> None:
    found = []
    for path in UNIT:
        for node in nodes_of(path) if "sleep" in text_of(path) else ():
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep"):
                zero = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
                if not zero:
                    found.append(f"{name(path)}: line {node.lineno} sleeps")
    assert found == []


def links(page: Path) -> Iterator[str]:
    """The places inside the repository that a page leads to."""
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def test_a_link_of_a_page_leads_somewhere() -> None:
    dead = [(name(page), target) for page in PAGES for target in links(page) if not (page.parent / target).exists()]
    assert dead == []


NAMES_PAGES = [*SHIPPED, *PAGES, *sorted((ROOT / "bench").rglob("*.py")), *sorted((ROOT / "examples").glob("*.*"))]


def test_a_page_that_is_named_is_there() -> None:
    """As in ``see docs/queues.md``, in code, in a message or on a page; what a web address holds is not ours."""
    named = [
        (name(path), page) for path in NAMES_PAGES for page in re.findall(r"(?<![\w./-])docs/[\w./-]*\w", text_of(path))
    ]
    assert [(place, page) for place, page in named if not (ROOT / page).exists()] == []


def test_every_module_of_the_package_is_imported_by_something() -> None:
    imported = {
        name
        for path in [*SHIPPED, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "bench").rglob("*.py"))]
        for name in re.findall(r"nullworker(?:\.\w+)+", path.read_text())
    }
    imported |= set(re.findall(r"nullworker(?:\.\w+)+", (ROOT / "pyproject.toml").read_text()))
    relative = "\n".join(path.read_text() for path in SHIPPED)
    for path in SHIPPED:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name in ("__init__.py", "__main__.py") or module.startswith(("workers.", "nullworker.cli.")):
            continue
        parent, _, leaf = module.rpartition(".")
        found = module in imported or re.search(rf"from {re.escape(parent)} import [^\n]*\b{leaf}\b", relative)
        assert found or re.search(rf"from {re.escape(parent)} import \([^)]*\b{leaf}\b", relative), module


DIALECT = re.compile(
    r"\b(nobody|whoever|anew|knock(s|ed|ing)?|strangers?|hearsay|mourn(s|ed|ing)?|reckon(s|ed|ing)?|comes? of age)\b",
    re.IGNORECASE,
)
CODE_AND_PAGES = [*SHIPPED, *PAGES, *sorted((ROOT / "docs").rglob("*.py")), *sorted((ROOT / "examples").glob("*.*"))]


def test_code_and_pages_have_plain_words() -> None:
    """Each has a standard term in its place: a client, an unknown instance, again, computed."""
    found = [
        f"{name(path)}: line {line_of(text_of(path), match)}: {match[0]}"
        for path in CODE_AND_PAGES
        for match in DIALECT.finditer(text_of(path))
    ]
    assert found == []


def test_nothing_that_a_program_has_left_is_kept_beside_the_readme() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {path for path in listed.splitlines() if "/" not in path} == IN_THE_ROOT


def test_no_merge_conflict_is_left() -> None:
    conflict = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    assert [name(path) for path in CODE_AND_PAGES if conflict.search(text_of(path))] == []
