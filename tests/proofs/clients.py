"""The clients of the proofs: what each has asked, done and been shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from admission import Priority
from broadcast.outcome import End
from broadcast.subscription import Subscription
from chatbot.manager import ChatManager
from chatbot.record import Record
from chatbot.request import CacheDirectives
from chatbot.ticket import Ticket
from chatbot.via import NATIVE, OPENAI
from runtime.errors import GatewayError
from tests.fakes.pipeline import Pipeline, question, text_form
from upstream.chunk import Chunk


@dataclass(frozen=True)
class Wish:
    """What a client asks, as drawn."""

    prompt: str
    native: bool = True
    cache: CacheDirectives = field(default_factory=CacheDirectives)
    priority: Priority = Priority.INTERACTIVE


@dataclass(eq=False)
class Asked:
    """One request in the plain model's eyes: times are the loop's, nothing in it is read from the product.

    But for `record`, through which a client looks at its request, and `refusal`, which it was answered.
    """

    wish: Wish
    ticket: Ticket
    task: asyncio.Task[None] | None = None
    record: Record | None = None
    refusal: GatewayError | None = None
    crowd: int = 0  #: how many broadcasts ran when it was refused
    admitted_at: float = 0.0
    connections: int = 0
    came: bool = False
    dropped_at: float | None = None  #: when the last connection went
    cancelled_at: float | None = None
    statuses: list[str] = field(default_factory=list)
    end: End | None = None  #: as first seen

    @property
    def prompt(self) -> str:
        return self.wish.prompt

    @property
    def running(self) -> bool:
        return self.record is not None and self.end is None


@dataclass(eq=False)
class Listener:
    """One connection that reads a stream."""

    asked: Asked
    text: str = ""
    cursor: int = 0
    end: End | None = None
    open: bool = False
    task: asyncio.Task[None] | None = None

    async def read(self, manager: ChatManager) -> None:
        """As the wire does: all that is new, then wait; gone at the end, or when its task is cancelled."""
        record = self.asked.record
        assert record is not None
        subscription: Subscription[Chunk] = Subscription(record.broadcast.log, self.cursor)
        around = manager.reading if record.native else manager.serving
        with around(record, subscription):
            self._opened()
            try:
                while self.end is None:
                    self.end = record.claim.ended
                    if not record.alone:
                        self.text += subscription.take(text_form).decode()
                        self.cursor = subscription.cursor
                    if self.end is None:
                        await subscription.wait()
            finally:
                self._closed(asyncio.get_running_loop().time())

    def _opened(self) -> None:
        self.open = self.asked.came = True
        self.asked.connections += 1
        self.asked.dropped_at = None

    def _closed(self, now: float) -> None:
        self.open = False
        self.asked.connections -= 1
        if self.asked.connections == 0:
            self.asked.dropped_at = now


async def submit(pipe: Pipeline, asked: Asked) -> None:
    """To its record or its refusal; an OpenAI caller then reads on the same connection."""
    wish = asked.wish
    request = question(wish.prompt, wish.priority, None, wish.cache)
    try:
        record, _ = await pipe.manager.submit(request, asked.ticket, NATIVE if wish.native else OPENAI)
    except GatewayError as refusal:
        asked.refusal = refusal
        asked.crowd = len(pipe.broadcasts.running)
        return
    asked.record = record
    asked.admitted_at = asyncio.get_running_loop().time()


async def call(pipe: Pipeline, listener: Listener) -> None:
    """One OpenAI exchange."""
    await submit(pipe, listener.asked)
    if listener.asked.record is not None:
        await listener.read(pipe.manager)
