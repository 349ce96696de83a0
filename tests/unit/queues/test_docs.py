"""docs/queues.md has every adapter and every warning, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import nullworker.queues
from nullworker.queues import registry

PACKAGE = Path(nullworker.queues.__file__).parent
PAGE = (PACKAGE.parents[1] / "docs" / "queues.md").read_text()


def test_the_page_has_the_url_of_every_adapter() -> None:
    missing = [scheme for scheme in registry.schemes() if f"`{scheme}" not in PAGE]
    assert not missing


def test_the_page_explains_every_warning_and_no_other() -> None:
    codes = {
        code for path in PACKAGE.glob("*.py") for code in re.findall(r'QueueWarning\(\s*"([a-z-]+)"', path.read_text())
    }
    assert len(codes) > 15
    entries = [line for line in PAGE.splitlines() if line.startswith("- `")]
    explained = {code for line in entries for code in re.findall(r"`([a-z-]+)`:", line)}
    assert codes == explained
