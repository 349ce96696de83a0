"""The fleet that docs/fleets.md shows is a whole one: it passes the conformance kit as it stands there."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from nullworker.fleets.processes.launch import PASSED_VARIABLES
from nullworker.fleets.processes.settings import ProcessSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "fleets.md").read_text()
FILES = dict(re.findall(r"```python file=(\S+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's files, as one would write them down."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    importlib.invalidate_caches()
    yield
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


@pytest.mark.usefixtures("files")
async def test_the_fleet_on_the_page_passes_the_kit_with_the_test_on_the_page() -> None:
    assert set(FILES) == {"my_cloud.py", "my_fleet.py", "test_my_fleet.py"}
    await importlib.import_module("test_my_fleet").test_my_fleet()


def test_every_setting_is_on_the_page_with_its_default() -> None:
    """But for the state directory, which the engine gives."""
    settings_part = PAGE.partition("## Write your own")[0]
    table = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", settings_part, re.MULTILINE))
    fields = {field.name: field.default for field in msgspec.structs.fields(ProcessSettings)}
    assert set(table) == set(fields) - {"state_dir"}
    assert table["host"] == f"`{fields['host']}`"
    assert table["grace_s"] == f"{fields['grace_s']:g}"
    assert table["log_bytes_max"] == f"{fields['log_bytes_max'] >> 20} MiB"
    assert table["logs_kept"] == str(fields["logs_kept"])


def test_every_variable_that_is_passed_on_is_on_the_page() -> None:
    assert [name for name in (*PASSED_VARIABLES, "PATH", "PYTHONPATH") if f"`{name}`" not in PAGE] == []
