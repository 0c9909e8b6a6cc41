"""The live page as a visitor sees it: what is typed, what is read, and what its console complains of."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page  # type: ignore[import-not-found]

DESKTOP: dict[str, Any] = {"viewport": {"width": 1360, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


class Visit:
    """One tab. `complaints`: errors of scripts, of the policy, whatever the console calls an error."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._said)

    def _said(self, message: Any) -> None:
        # What the network refuses is told on the page itself, and some tests refuse on purpose.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    async def open(self, url: str) -> None:
        await self.page.goto(url)
        await self.page.wait_for_selector("#main:not([hidden])")

    async def ask(self, question: str) -> None:
        """By keyboard alone."""
        await self.page.focus("#question")
        await self.page.keyboard.insert_text(question)
        await self.page.keyboard.press("Enter")

    async def shows(self, selector: str, text: str) -> None:
        """Until an element with this selector has the text in it."""
        await self.page.locator(selector, has_text=text).first.wait_for()

    async def answer(self) -> str:
        """The text of the last answer, once it has ended."""
        await self.page.locator("article").last.locator('button:has-text("Regenerate")').wait_for()
        return str(await self.page.locator("article .answer").last.text_content())

    async def total(self, name: str) -> str:
        return str(await self.page.locator(f'[data-total="{name}"] dd').text_content())

    async def fits(self) -> bool:
        """Nothing makes the page wider than the window."""
        return bool(await self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@asynccontextmanager
async def visitor(browser: Browser, **options: Any) -> AsyncIterator[BrowserContext]:
    """A browser of somebody's own: keys and connections are shared by its tabs alone."""
    context = await browser.new_context(**{**DESKTOP, **options})
    context.set_default_timeout(20_000)
    try:
        yield context
    finally:
        await context.close()


async def tab(context: BrowserContext) -> Visit:
    return Visit(await context.new_page())
