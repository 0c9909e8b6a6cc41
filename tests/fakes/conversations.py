"""Conversations in memory: what the scripts promise, without Redis, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from cache.conversations import LEASE_S, Place, View
from cache.errors import StoreDown, StoreRefused
from chatbot.behind import Around
from chatbot.conversations import Conversations
from chatbot.record import Record
from chatbot.request import CacheDirectives, ChatRequest
from chatbot.ticket import Ticket
from chatbot.waiting import Waiting
from tests.fakes.model import Call
from tests.fakes.pipeline import Pipeline, question
from tests.fakes.turns import settle


@dataclass
class Kept:
    """One conversation. `line`: id → (number, lease until)."""

    number: int = 0
    forgotten: int = 0
    first: int = 0
    last: int = 0
    turns: list[bytes] = field(default_factory=list)
    line: dict[str, tuple[int, float]] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)


class MemoryConversations:
    """`down`: no call is answered. `refused`: nothing is kept. `lag_s`: what each call takes."""

    def __init__(self, waiting: int = 4, lag_s: float = 0.0) -> None:
        self.down = False
        self.refused = False
        self.lag_s = lag_s
        self.kept: dict[str, Kept] = {}
        self._waiting = waiting

    async def enter(self, name: str, id: str, about: bytes) -> Place | None:
        one = await self._of(name)
        if id not in one.line:
            if len(one.line) > self._waiting:
                return None
            one.number += 1
            one.line[id] = (one.number, self._lease())
        return self._place(one, id)

    async def beat(self, name: str, id: str, place: Place, *, runs: bool) -> Place | None:
        one = await self._of(name)
        if id in one.left:
            return None
        one.line[id] = (place.number, self._lease())
        return self._place(one, id)

    async def finish(self, name: str, id: str, place: Place | None, turn: bytes) -> tuple[bool, str]:
        one = await self._of(name)
        if turn and self.refused:
            raise StoreRefused("finish: OOM")
        kept = bool(
            turn
            and place is not None
            and id not in one.left
            and place.forgotten == str(one.forgotten)
            and place.number >= one.first
            and place.number > one.last
        )
        if kept and place is not None:
            one.turns.append(turn)
            one.last = place.number
        one.line.pop(id, None)
        one.left.add(id)
        return kept, next(iter(self._in_order(one)), "")

    async def view(self, name: str, *, turns: bool = True) -> View | None:
        one = await self._of(name)
        if not one.turns and not one.line:
            return None
        return View(60_000, tuple(self._in_order(one)), tuple(one.turns))

    async def forget(self, name: str) -> bool:
        one = await self._of(name)
        there = bool(one.turns or one.line)
        one.forgotten += there
        one.turns.clear()
        return there

    async def whereabouts(self, id: str) -> tuple[str, bytes] | None:
        raise AssertionError("a process that is alone asks nobody")

    # -- what it is made of -------------------------------------------------------------------
    async def _of(self, name: str) -> Kept:
        await asyncio.sleep(self.lag_s)
        if self.down:
            raise StoreDown("down")
        one = self.kept.setdefault(name, Kept())
        now = asyncio.get_running_loop().time()
        one.line = {id: (number, till) for id, (number, till) in one.line.items() if till > now}
        return one

    def _lease(self) -> float:
        return asyncio.get_running_loop().time() + LEASE_S

    def _in_order(self, one: Kept) -> list[str]:
        return sorted(one.line, key=lambda id: one.line[id][0])

    def _place(self, one: Kept, id: str) -> Place:
        position, number = self._in_order(one).index(id), one.line[id][0]
        if position == 0:
            one.first = max(one.first, number)
        turns = tuple(one.turns) if position == 0 else ()
        return Place(position, number, str(one.forgotten), turns)


async def nobody_else(record: Record) -> None:
    """There is no other process to tell."""
    assert record.claim.ended is not None


def conversations(
    pipe: Pipeline,
    store: MemoryConversations | None = None,
    *,
    window: int = 8192,
    told: Callable[[Record], Awaitable[None]] = nobody_else,
) -> Conversations:
    """Of a played pipeline. What it starts ends with the pipeline."""
    made: Conversations
    around = Around(
        store or MemoryConversations(),
        pipe.manager,
        pipe.records,
        pipe.supervisor,
        told,
        lambda id: made.look(id),
        pipe.limits.queue_s,
        window,
        pipe.limits.queue,
    )
    made = Conversations(around, pipe.keys)
    return made


async def say(
    pipe: Pipeline,
    talk: Conversations,
    prompt: str,
    conversation: str = "c",
    *,
    tenant: str = "t",
    request_id: str | None = None,
    **directives: Any,
) -> Record | Waiting:
    """Submit a turn."""
    plain = question(prompt, request_id=request_id, cache=CacheDirectives(**directives))
    request = ChatRequest(plain.body, plain.priority, plain.cache, request_id, conversation)
    ticket = Ticket.issue(tenant)
    pipe.prompts[ticket.id] = prompt
    found, _ = await talk.submit(request, ticket)
    return found


async def answered(pipe: Pipeline, talk: Conversations, found: Record | Waiting) -> Record:
    """Read it to its end; it may still wait."""
    while not isinstance(found, Record):
        await asyncio.sleep(0.01)
        found = await talk.seek(found.ticket.id, found.ticket.tenant)
    await pipe.read(found)
    await settle()
    return found


async def running(pipe: Pipeline, talk: Conversations, group: asyncio.TaskGroup, prompt: str) -> Call:
    """A turn that streams, answered by hand."""
    pipe.model.by_hand.add(prompt)
    group.create_task(answered(pipe, talk, await say(pipe, talk, prompt)))
    return await pipe.model.call(prompt)


def contents(call: Call) -> list[str]:
    return [message["content"] for message in call.body["messages"]]
