"""Rules of style that no linter has: unfinished marks, long files, sleeping tests, dead links, words that we avoid."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = [*sorted((ROOT / "nullworker").rglob("*.py")), *sorted((ROOT / "workers").rglob("*.py"))]
UNIT = [*sorted((ROOT / "tests/unit").rglob("*.py")), *sorted((ROOT / "tests/simulation").rglob("*.py"))]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_shipped_file_is_finished_and_of_a_readable_length(path: Path) -> None:
    text = path.read_text()
    assert not UNFINISHED.search(text)
    assert text.count("\n") <= FILE_LINES_MAX


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_function_fits_on_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            lines = (node.end_lineno or first.lineno) - first.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_time_limit_loses_no_cancellation(path: Path) -> None:
    """`asyncio.wait_for` does, on Python 3.10 and 3.11; `nullworker.wire.timeouts.within` does not."""
    assert not any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for"
        for node in ast.walk(ast.parse(path.read_text()))
    )


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_a_task_is_started_where_its_failure_is_seen(path: Path) -> None:
    """By `nullworker.wire.tasks`, and nowhere else."""
    if path.name == "tasks.py" and path.parent.name == "wire":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        named = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        assert named not in ("create_task", "ensure_future", "TaskGroup"), f"line {getattr(node, 'lineno', 0)}: {named}"


@pytest.mark.parametrize("path", UNIT, ids=name)
def test_unit_and_simulation_tests_never_sleep(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep"):
            zero = len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0
            assert zero, f"line {node.lineno} sleeps"


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_link_of_a_page_leads_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (path.parent / target).exists(), f"{target} is not there"


NAMES_PAGES = [*SHIPPED, *PAGES, *sorted((ROOT / "bench").rglob("*.py")), *sorted((ROOT / "examples").glob("*.*"))]


@pytest.mark.parametrize("path", NAMES_PAGES, ids=name)
def test_a_page_that_is_named_is_there(path: Path) -> None:
    """As in ``see docs/queues.md``, in code, in a message or on a page; what a web address holds is not ours."""
    for page in re.findall(r"(?<![\w./-])docs/[\w./-]*\w", path.read_text()):
        assert (ROOT / page).exists(), f"{page} is not there"


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


@pytest.mark.parametrize("path", CODE_AND_PAGES, ids=name)
def test_code_and_pages_have_plain_words(path: Path) -> None:
    """Each has a standard term in its place: a client, an unknown instance, again, computed."""
    text = path.read_text()
    found = [f"line {text.count(chr(10), 0, match.start()) + 1}: {match[0]}" for match in DIALECT.finditer(text)]
    assert found == []


@pytest.mark.parametrize("path", CODE_AND_PAGES, ids=name)
def test_no_merge_conflict_is_left(path: Path) -> None:
    assert not re.search(r"^(<{7}|>{7}) ", path.read_text(), re.MULTILINE)
