"""Turns that wait in another process, on a real Redis: shown while that lives, and lost if it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from broadcast.relay import Relay
from cache.conversations import Bounds, Place, SharedConversations
from cache.link import Link
from cache.names import conversation
from cache.requests import SharedRequests
from chatbot import told
from chatbot.astray import Astray
from chatbot.known import KnownRequests
from chatbot.ticket import Ticket
from runtime.errors import StateUnavailable
from tests.fakes.shared_redis import Proc, processes
from tests.servers import RedisServer, standalone

pytestmark = pytest.mark.anyio
NAME = conversation("t", "c")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with standalone() as server:
        yield server


class There:
    """The process that has the turns, and another one that looks on."""

    def __init__(self, owner: Proc, other: Proc) -> None:
        self.owner, self.other = owner, other
        self.dead: tuple[str, ...] = ()
        self.store = self._store(owner)
        self.requests = SharedRequests(other.link)
        known = cast(KnownRequests, SimpleNamespace(retention_ms=60_000))
        relay = cast(Relay, SimpleNamespace(lives=self._lives, flights=other.flights))
        self.astray = Astray(self._store(other), self.requests, known, relay)

    def _store(self, proc: Proc) -> SharedConversations:
        async def link() -> Link:
            return proc.link

        bounds = Bounds(60.0, 4, 100, 1 << 20)
        return SharedConversations(link, proc.name, bounds, known_s=60.0, dead=lambda: self.dead)

    async def _lives(self, proc: str) -> bool:
        return proc not in self.dead

    async def submit(self) -> tuple[Ticket, Place]:
        ticket = Ticket.issue("t").placed(NAME)
        about = told.about_unborn(ticket, NAME, "chat", native=True)
        place = await self.store.enter(NAME, ticket.id, about)
        assert place is not None
        return ticket, place


async def test_it_is_shown_as_it_stands_in_line(server: RedisServer) -> None:
    """The place, the time and the priority are its own; a foreign tenant and an unknown id find nothing."""
    async with processes(server) as (owner, other):
        there = There(owner, other)
        (_, _), (second, _), (third, place) = [await there.submit() for _ in range(3)]
        for ticket, position in ((second, 1), (third, 2)):
            found = await there.astray.find(ticket.id, "t")
            assert found is not None
            assert found.progress().queue_position == position
            assert found.ticket.created_at == ticket.created_at
        assert await there.astray.find(second.id, "u") is None
        for unknown in (second.id[:-3] + "x" + NAME[-2:], "chat_", "é" * 39):
            assert await there.astray.find(unknown, "t") is None
        await there.store.finish(NAME, third.id, place, b"")
        assert await there.astray.find(third.id, "t") is None, "it does not wait any more"


async def test_one_whose_process_is_gone_is_lost(server: RedisServer) -> None:
    """Said once, for everybody: its client is told to ask again, instead of waiting for nobody."""
    async with processes(server) as (owner, other):
        there = There(owner, other)
        await there.submit()
        ticket, _ = await there.submit()
        there.dead = (owner.name,)
        for _ in range(2):
            assert await there.astray.find(ticket.id, "t") is None
        known = await there.requests.recall(ticket.id)
        assert known is not None
        assert told.read_ended(known.end).code == "worker_lost"


async def test_a_cancel_is_asked_of_its_process(server: RedisServer) -> None:
    """Again and again until that has said what became of it; one that stays silent is no success."""
    async with processes(server) as (owner, other):
        there = There(owner, other)
        asked: list[str] = []
        owner.link.listen("C", asked.append)
        ticket, _ = await there.submit()

        async def ends() -> None:
            while len(asked) < 2:
                await asyncio.sleep(0)
            mine: Any = SharedRequests(owner.link)
            await mine.remember(ticket.id, b"about", "leader", 0, 60_000)

        async with asyncio.TaskGroup() as group:
            group.create_task(ends())
            await there.astray.cancel(ticket.id)
        assert set(asked) == {ticket.id}
        silent, _ = await there.submit()
        with pytest.raises(StateUnavailable):
            await there.astray.cancel(silent.id)


async def test_without_redis_nothing_is_said(server: RedisServer) -> None:
    """Neither that it waits nor that there is no such chat."""
    async with processes(server) as (owner, other):
        there = There(owner, other)
        ticket, _ = await there.submit()
        await other.link.close()
        with pytest.raises(StateUnavailable):
            await there.astray.find(ticket.id, "t")
        with pytest.raises(StateUnavailable):
            await there.astray.cancel(ticket.id)
