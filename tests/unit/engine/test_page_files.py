"""The page's files: small, its own, with a policy that forbids all else; what others wrote bears licence and hash."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from nullworker.engine.api.page import DIRECTORY, HEADERS, Page
from nullworker.wire.errors import NotFoundError
from nullworker.wire.paths import PAGES

GZIP_BYTES_MAX = 60_000
PAGE = Page()


async def answer(path: str, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = make_mocked_request("GET", path, headers=named)
    found = await (PAGE.page_file if path.startswith("/page/") else PAGE.page)(request)
    assert isinstance(found, web.Response)
    return found


def test_all_of_it_is_under_60_kb() -> None:
    assert sum(len(file.compressed) for file in PAGE.files.values()) < GZIP_BYTES_MAX


def test_what_others_wrote_is_as_they_published_it_and_its_licence_is_there() -> None:
    vendored = json.loads((DIRECTORY / "vendor/VENDORED.json").read_text())
    assert set(vendored) == {path.name for path in (DIRECTORY / "vendor").glob("*.js")}
    for name, facts in vendored.items():
        assert hashlib.sha256((DIRECTORY / "vendor" / name).read_bytes()).hexdigest() == facts["sha256"]
        assert facts["licence"]
    licences = (DIRECTORY / "vendor/LICENSES.txt").read_text()
    assert "Apache License" in licences
    assert "The MIT License" in licences or "MIT License" in licences


@pytest.mark.parametrize("name", sorted(PAGE.files))
def test_nothing_is_inline_and_nothing_is_from_elsewhere(name: str) -> None:
    text = PAGE.files[name].plain.decode()
    if name.endswith(".html"):
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    if not name.startswith("vendor/"):
        assert "innerHTML" not in text
        assert "eval(" not in text
        assert not re.findall(r"https?://(?!www\.w3\.org/)", text)  # the name space of SVG is no address


@pytest.mark.parametrize("path", [*PAGES, "/page/main.js", "/page/page.css"])
async def test_every_answer_bears_the_policy(path: str) -> None:
    found = await answer(path)
    assert {name: found.headers[name] for name in HEADERS} == HEADERS
    policy = found.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_a_browser_that_has_a_file_is_not_sent_it_again() -> None:
    first = await answer("/page/main.js", Accept_Encoding="gzip")
    assert first.headers["Content-Encoding"] == "gzip"
    assert (await answer("/page/main.js")).headers.get("Content-Encoding") is None
    again = await answer("/page/main.js", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, None)


@pytest.mark.parametrize("name", ["../server.py", "vendor/LICENSES.txt", "nothing.js", ""])
async def test_no_other_file_is_served(name: str) -> None:
    with pytest.raises(NotFoundError):
        await answer(f"/page/{name}")


def test_what_the_page_imports_is_there() -> None:
    for name, file in PAGE.files.items():
        if name.endswith(".js") and not name.startswith("vendor/"):
            for target in re.findall(r'from "\./([^"]+)"', file.plain.decode()):
                assert target in PAGE.files, f"{name} imports {target}"
