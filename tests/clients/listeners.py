"""Three kinds of EventSource as one: each connects, resumes and stops by itself, and tells what it sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser  # type: ignore[import-not-found]

from tests.clients.scripts import running

TERMINAL = ("done", "failed", "cancelled")

#: In the page: the browser's own EventSource, never closed from here.
IN_PAGE = """url => {
    const source = new EventSource(url);
    for (const name of ["status", "delta", "reset", "done", "failed", "cancelled"])
        source.addEventListener(name, e => tell({event: name, data: e.data, id: e.lastEventId}));
    source.onopen = () => tell({event: "open"});
    source.onerror = () => tell({event: source.readyState === EventSource.CLOSED ? "closed" : "lost"});
}"""


@dataclass
class Listener:
    """What one EventSource has seen so far; `until` reads on."""

    _line: Callable[[], Awaitable[dict[str, Any]]]
    seen: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(line["data"]["text"] for line in self.seen if line["event"] == "delta")

    @property
    def names(self) -> list[str]:
        return [line["event"] for line in self.seen]

    @property
    def statuses(self) -> list[dict[str, Any]]:
        return [line["data"] for line in self.seen if line["event"] == "status"]

    @property
    def end(self) -> dict[str, Any]:
        """The one terminal event."""
        (end,) = [line for line in self.seen if line["event"] in TERMINAL]
        return end

    async def until(self, seen: Callable[[Listener], object]) -> None:
        while not seen(self):
            line = await self._line()
            if "data" in line:
                line["data"] = json.loads(line["data"])
            self.seen.append(line)

    async def until_text(self, text: str) -> None:
        """Until exactly this text has come."""
        await self.until(lambda listener: not text.startswith(listener.text) or listener.text == text)
        assert self.text == text

    async def until_closed(self) -> None:
        """Until the server has stopped it."""
        await self.until(lambda listener: "closed" in listener.names)


Listen = Callable[[str], AbstractAsyncContextManager[Listener]]


@asynccontextmanager
async def node_eventsource(url: str) -> AsyncIterator[Listener]:
    async with running("eventsource.mjs", url=url) as script:
        yield Listener(script.line)


@asynccontextmanager
async def fetch_event_source(url: str) -> AsyncIterator[Listener]:
    async with running("fetch-event-source.mjs", url=url) as script:
        yield Listener(script.line)


def of_browser(browser: Browser) -> Listen:
    """The EventSource of a page of the same origin, as a live page would have it."""

    @asynccontextmanager
    async def listen(url: str) -> AsyncIterator[Listener]:
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def line() -> dict[str, Any]:
            async with asyncio.timeout(30):
                return await lines.get()

        page = await browser.new_page()
        try:
            await page.expose_function("tell", lines.put_nowait)
            await page.goto(url.split("/chat/")[0] + "/healthz")
            await page.evaluate(IN_PAGE, url)
            yield Listener(line)
        finally:
            await page.close()

    return listen
