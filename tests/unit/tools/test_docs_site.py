"""The documentation site: each page is in its navigation once, and links lead to where pages are there."""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tools import docs_site
from tools.docs_site import INTERFACE, NAVIGATION, moved, pages

if TYPE_CHECKING:
    from pathlib import Path

ON_SITE = {"README.md": "index.md", "docs/queues.md": "queues.md", "docs/how-to/ci.md": "how-to/ci.md"}


def test_each_page_is_in_the_navigation_once() -> None:
    listed = Counter(page for titles in NAVIGATION.values() for page in titles)
    expected = {page for page in pages() if not page.startswith("docs/decisions/")}
    assert set(listed) == expected
    assert set(listed.values()) == {1}


def test_no_two_pages_are_one_on_the_site() -> None:
    assert len(set(pages().values())) == len(pages())


@pytest.mark.parametrize(
    ("page", "text", "there"),
    [
        ("README.md", "[queues](docs/queues.md#sqs)", "[queues](queues.md#sqs)"),
        ("docs/how-to/ci.md", "[queues](../queues.md)", "[queues](../queues.md)"),
        ("docs/how-to/ci.md", "[it](../../README.md)", "[it](../index.md)"),
        ("docs/queues.md", "[code](../nullworker/core)", "code"),
        ("README.md", "![it](docs/pictures/demo.svg)", "![it](pictures/demo.svg)"),
        ("docs/how-to/ci.md", "![it](../pictures/demo.svg)", "![it](../pictures/demo.svg)"),
        ("docs/queues.md", "[gone](nosuch.md)", "[gone](nosuch.md)"),
        ("docs/queues.md", "[here](#sqs), [there](https://example.com)", "[here](#sqs), [there](https://example.com)"),
    ],
)
def test_a_link_leads_to_where_its_page_is(page: str, text: str, there: str) -> None:
    """What leads nowhere is left as it is: MkDocs then fails."""
    assert moved(text, page, ON_SITE) == there


def test_the_modules_of_the_interface_are_there() -> None:
    for modules in INTERFACE.values():
        for module in modules:
            assert importlib.util.find_spec(module) is not None, module


def test_all_pages_are_in_one_folder(tmp_path: Path) -> None:
    docs_site.assemble(tmp_path)
    assert (tmp_path / "index.md").is_file()
    assert (tmp_path / "how-to/ci.md").is_file()
    assert "::: nullworker.client.client" in (tmp_path / "python/the-client.md").read_text()
