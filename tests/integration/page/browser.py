"""A real Chromium, Debian's, headless, and the page in it: what the tests of the page share."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.async_api import async_playwright

from tests.integration.queues.brokers import node_library, program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, BrowserContext, Page

#: A hang limit for what the page is to show.
SHOWN_MS = 30_000
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser; skips the test where it is not here."""
    path = program("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            await browser.close()


class Tab:
    """A page of the engine in a tab, and all that its console complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.complaints: list[str] = []
        page.set_default_timeout(SHOWN_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    async def open(self, path: str) -> None:
        await self.page.goto(self.url + path)

    async def sign_in(self, key: str, path: str = "/") -> None:
        await self.open(path)
        await self.page.get_by_label("Account key").fill(key)
        await self.page.keyboard.press("Enter")
        await self.page.get_by_role("navigation").wait_for()

    async def shows(self, text: str) -> None:
        await self.page.get_by_text(text).first.wait_for()

    async def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.1 AA and its best practices."""
        source = axe_source()
        await self.page.evaluate(source)
        found = await self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{each['id']}: {each['help']} ({'; '.join(node['html'][:120] for node in each['nodes'][:3])})"
            for each in found["violations"]
        ]


@contextlib.asynccontextmanager
async def tab(browser: Browser, url: str, **settings: Any) -> AsyncIterator[Tab]:
    """A tab with cookies of its own."""
    context: BrowserContext = await browser.new_context(**{"viewport": DESK, **settings})
    try:
        yield Tab(await context.new_page(), url)
    finally:
        await context.close()


def axe_source() -> str:
    """axe-core, from npm."""
    _, directory = node_library(Path(__file__).parent)
    return (directory / "node_modules/axe-core/axe.min.js").read_text()
