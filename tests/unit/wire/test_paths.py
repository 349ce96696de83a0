from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nullworker.wire import paths

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
NAMES = {name: value for name, value in vars(paths).items() if name.isupper() and isinstance(value, str)}


class Words(NamedTuple):
    """What a file says."""

    texts: frozenset[str]  # as constants
    names: frozenset[str]


@functools.cache
def shipped() -> dict[Path, Words]:
    """What all shipped files but the one of paths say; looked into once, by the process that wants it."""
    files = [file for top in ("nullworker", "workers") for file in (ROOT / top).rglob("*.py")]
    return {file: words(ast.parse(file.read_text())) for file in files if file != Path(paths.__file__)}


def words(tree: ast.Module) -> Words:
    nodes = list(ast.walk(tree))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return Words(
        frozenset(texts(tree)), frozenset(attributes | {node.id for node in nodes if isinstance(node, ast.Name)})
    )


def texts(tree: ast.Module) -> Iterator[str]:
    """The text constants that the code uses; docstrings are none."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def test_no_two_paths_are_the_same() -> None:
    assert len(NAMES) == len(set(NAMES.values()))


def test_a_path_is_written_in_no_other_file() -> None:
    def repeats(text: str) -> bool:
        return any(text.rstrip("/").endswith(path.rstrip("/")) for path in NAMES.values())

    assert [(str(file), text) for file, said in shipped().items() for text in said.texts if repeats(text)] == []


def test_each_path_is_used() -> None:
    used = {name for said in shipped().values() for name in said.names}
    assert NAMES.keys() - used == set()


def test_the_client_finds_the_root_certificate_where_it_looks_for_it() -> None:
    """The path is the one that the SDK's class attribute names."""
    from vastai.serverless.client.client import Serverless

    assert Serverless.SSL_CERT_URL.endswith(paths.ROOT_CERTIFICATE)
