"""docs/queues.md has every adapter and every warning, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import nullworker.queues
from nullworker.queues import registry
from tests.integration.queues import told

PACKAGE = Path(nullworker.queues.__file__).parent
PAGE = (PACKAGE.parents[1] / "docs" / "queues.md").read_text()


def test_the_page_has_the_url_of_every_adapter() -> None:
    missing = [scheme for scheme in registry.schemes() if f"`{scheme}" not in PAGE]
    assert not missing


def kinds() -> set[str]:
    """The kinds of queues, each once; adapters with several schemes are one kind."""
    classes = {registry.adapter(f"{scheme}://") for scheme in registry.schemes()}
    return {re.sub(r"[^a-z]", "", cls.__name__.removesuffix("Queue").lower()) for cls in classes}


def test_the_table_of_what_is_told_has_a_row_for_every_adapter() -> None:
    assert {kind.replace("-", "") for kind in told.rows()} == kinds()
    assert {len(cells) for cells in told.rows().values()} == {4}


def test_the_table_names_warnings_and_parameters_that_exist() -> None:
    """A row may name those of its own adapter alone."""
    sources = {path.stem: path.read_text() for path in PACKAGE.glob("*.py")}
    shared = "".join(sources[name] for name in ("_leases", "_redis", "_postgres"))
    for kind, cells in told.rows().items():
        module = kind.replace("-", "_")
        source = sources[module] + shared + (sources["_rabbitmq"] if kind in {"amqp", "rabbitmq"} else "")
        for parameter in re.findall(r"`[?&]([a-z_]+)=", " ".join(cells)):
            assert f'"{parameter}"' in source, f"{kind}: there is no parameter {parameter}"
        words = set(re.findall(r"`([a-z][a-z-]+)`", cells[2])) | set(re.findall(r"demand: `([a-z-]+)`", cells[1]))
        for code in words & _codes():
            assert f'"{code}"' in source, f"{kind}: it never warns of {code}"
        told_of = set(re.findall(r'QueueWarning\(\s*"([a-z-]+)"', sources[module])) - {"missing"}
        assert told_of <= words, f"{kind}: the row lacks {told_of - words}"


def _codes() -> set[str]:
    return {
        code for path in PACKAGE.glob("*.py") for code in re.findall(r'QueueWarning\(\s*"([a-z-]+)"', path.read_text())
    }


def test_the_page_explains_every_warning_and_no_other() -> None:
    codes = _codes()
    assert len(codes) > 15
    entries = [line for line in PAGE.splitlines() if line.startswith("- `")]
    explained = {code for line in entries for code in re.findall(r"`([a-z-]+)`:", line)}
    assert codes == explained
