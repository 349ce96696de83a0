"""What is imported is declared, where the one who installs a part gets it; and what is declared is imported."""

from __future__ import annotations

import ast
import functools
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLED = packages_distributions()
ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = msgspec.toml.decode((ROOT / "pyproject.toml").read_bytes())

#: The extras that a directory or a file belongs to; the longest path counts. Each of them, together with the base, must
#: bring what is imported there. What is in no line below ``nullworker`` belongs to the base: every installation has it.
EXTRAS = {
    "nullworker": [],
    "nullworker/classic": ["classic"],
    "nullworker/cli/charts.py": ["charts"],
    "nullworker/cli/demo": ["demo"],
    "nullworker/cli/engine.py": ["engine"],
    "nullworker/cli/metrics_port.py": ["metrics"],
    "nullworker/cli/printing.py": ["engine"],
    "nullworker/cli/queues.py": ["engine"],
    "nullworker/cli/cost.py": ["engine"],
    "nullworker/cli/simulate.py": ["engine"],
    "nullworker/cli/status.py": ["engine"],
    "nullworker/cli/up": ["engine"],
    "nullworker/engine": ["engine"],
    "nullworker/engine/metrics": ["engine", "metrics"],
    "nullworker/fleets/processes": ["engine"],
    "nullworker/fleets/vast": ["vast"],
    "nullworker/queues/_postgres.py": ["postgres"],
    "nullworker/queues/_postgres_connections.py": ["postgres"],
    "nullworker/queues/_postgres_database.py": ["postgres"],
    "nullworker/queues/_redis_broker.py": ["redis"],
    "nullworker/queues/_redis_servers.py": ["redis"],
    "nullworker/queues/_redis_watch.py": ["redis"],
    "nullworker/queues/amqp.py": ["rabbitmq"],
    "nullworker/queues/nats.py": ["nats"],
    "nullworker/queues/redis_stream.py": ["redis"],
    "nullworker/queues/sqs.py": ["sqs"],
    "nullworker/wire/grant.py": ["worker", "engine", "classic"],
    "nullworker/wire/worker_side": ["worker", "classic"],
    "nullworker/worker": ["worker"],
    "workers": ["worker"],
}
#: What is declared without an import in our code, and why.
NEVER_IMPORTED = {
    "setuptools": "vastai imports distutils, which setuptools has",
    "urllib3": "requests sends with it, and earlier versions have known holes",
    "tomli": "msgspec reads TOML with it where Python has no tomllib",
}
OUR_OWN = {"nullworker", "workers", "tests", "bench", "docs", "tools"}
SHIPPED = sorted([*(ROOT / "nullworker").rglob("*.py"), *(ROOT / "workers").rglob("*.py")])
#: What runs in the environment of `make test`, which has every extra and the group ``dev``.
UNSHIPPED = sorted(path for top in ("tests", "bench", "docs", "tools") for path in (ROOT / top).rglob("*.py"))
#: Read by programs that tests start in environments of their own, never by a test.
ELSEWHERE = {"arq": "wants an older redis-py than ours; tests/integration/queues/brokers.py installs it aside"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def brought_by(requirements: list[Any]) -> set[str]:
    """The distributions that the requirements name, those of our own extras included."""
    found = set()
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement)
        assert match, requirement
        if match[1] == PROJECT["project"]["name"]:
            for extra in match[2].split(","):
                found |= brought_by(PROJECT["project"]["optional-dependencies"][extra])
        else:
            found.add(canonical(match[1]))
    return found


BASE = brought_by(PROJECT["project"]["dependencies"])
EXTRA = {name: brought_by(wanted) for name, wanted in PROJECT["project"]["optional-dependencies"].items()}
DEV = brought_by(PROJECT["dependency-groups"]["dev"])


def imports(node: ast.AST) -> Iterator[str]:
    """The modules that are imported when the code runs; those under ``if TYPE_CHECKING`` are not."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for otherwise in node.orelse:
            yield from imports(otherwise)
        return
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
    for child in ast.iter_child_nodes(node):
        yield from imports(child)


@functools.cache
def distributions(path: Path) -> dict[str, set[str]]:
    """By module: the distributions, one of which must be declared."""
    tops = {module.partition(".")[0] for module in imports(ast.parse(path.read_text()))}
    foreign = tops - sys.stdlib_module_names - OUR_OWN - set(ELSEWHERE)
    return {top: {canonical(name) for name in INSTALLED.get(top, [top])} for top in foreign}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def extras_of(path: Path) -> list[str]:
    return next(EXTRAS[name(parent)] for parent in [path, *path.parents] if name(parent) in EXTRAS)


def test_what_a_shipped_file_imports_is_declared() -> None:
    undeclared = [
        f"{name(path)} imports {module}, and none of {candidates} is declared for it"
        for path in SHIPPED
        for module, candidates in distributions(path).items()
        for brought in [BASE | EXTRA[extra] for extra in extras_of(path)] or [BASE]
        if not candidates & brought
    ]
    assert undeclared == []


def test_what_a_test_or_a_tool_imports_is_declared() -> None:
    undeclared = [
        f"{name(path)} imports {module}, and none of {candidates} is declared"
        for path in UNSHIPPED
        for module, candidates in distributions(path).items()
        if not candidates & (BASE | EXTRA["all"] | DEV)
    ]
    assert undeclared == []


def test_what_is_declared_is_imported() -> None:
    imported = {brought for path in SHIPPED for found in distributions(path).values() for brought in found}
    assert (BASE | EXTRA["all"]) - imported == set(NEVER_IMPORTED)


def test_every_extra_is_in_all_and_every_path_of_the_table_is_there() -> None:
    assert EXTRA["all"] == {name for brought in EXTRA.values() for name in brought}
    assert all((ROOT / path).exists() for path in EXTRAS)


def test_a_vast_instance_installs_what_a_worker_needs() -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    declared = [*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]["worker"]]
    assert set(filter(None, lines)) <= set(declared)
    assert brought_by([line for line in lines if line]) >= EXTRA["worker"]
