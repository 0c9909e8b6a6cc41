"""The end of a stream, where other processes follow its answer: they know of it before its reader does."""

from __future__ import annotations

import asyncio
from typing import Any

from cache.views import Others
from chatbot.record import Record
from tests.fakes.asgi import Peer
from tests.fakes.front import Front, front
from tests.fakes.model import Call
from tests.fakes.turns import settle
from tests.virtual_time import virtual


class Telling:
    """In the place of `level`: who waits until others know, and until when."""

    def __init__(self, gate: Front) -> None:
        self.asked: list[Record] = []
        self.known = asyncio.Event()
        gate.manager.level = self.level  # type: ignore[method-assign]

    async def level(self, record: Record) -> None:
        self.asked.append(record)
        await self.known.wait()


async def listening(gate: Front, group: asyncio.TaskGroup) -> tuple[dict[str, Any], Peer, Call]:
    """A request that is read, and the call for it."""
    gate.model.by_hand.add("q")
    chat = await gate.submit("q")
    peer = await gate.listen(group, chat["stream_url"])
    return chat, peer, await gate.model.call("q")


@virtual
async def test_the_end_is_told_when_others_know_and_the_text_before() -> None:
    """Row 3: after `done` nobody says `streaming`, whichever process is asked; and no text waits for that."""
    async with front() as gate, asyncio.TaskGroup() as group:
        telling = Telling(gate)
        chat, peer, call = await listening(gate, group)
        call.say("text")
        record = gate.record(chat["id"])
        record.broadcast.foreign = Others(following=1)
        call.complete()
        await settle()
        assert record.claim.ended is not None
        assert [event.json["text"] for event in peer.events if event.name == "delta"] == ["text"]
        assert telling.asked == [record]
        assert peer.events[-1].name == "delta"
        telling.known.set()
        await settle()
        assert peer.end.name == "done"


@virtual
async def test_nobody_waits_where_nobody_else_follows() -> None:
    """An answer of this process alone costs no look at Redis at its end."""
    async with front() as gate:
        telling = Telling(gate)
        peer = await gate.get((await gate.submit("q"))["stream_url"])
        assert peer.end.name == "done"
        assert telling.asked == []


@virtual
async def test_an_end_of_its_own_waits_for_nobody() -> None:
    """A cancel has been told where it was taken; the answer goes on for others, and has no end to tell."""
    async with front() as gate, asyncio.TaskGroup() as group:
        telling = Telling(gate)
        chat, peer, call = await listening(gate, group)
        other = await gate.listen(group, (await gate.submit("q"))["stream_url"])
        gate.record(chat["id"]).broadcast.foreign = Others(following=1)
        await gate.post(f"/chat/{chat['id']}/cancel", {})
        await settle()
        assert peer.end.name == "cancelled"
        assert telling.asked == []
        telling.known.set()
        call.complete()
    assert other.end.name == "done"


@virtual
async def test_whoever_leaves_meanwhile_is_written_to_no_more() -> None:
    """Its connection is gone: the wait goes to its end, and nothing is left behind."""
    async with front() as gate, asyncio.TaskGroup() as group:
        telling = Telling(gate)
        chat, peer, call = await listening(gate, group)
        gate.record(chat["id"]).broadcast.foreign = Others(following=1)
        call.complete()
        await settle()
        pieces = len(peer.pieces)
        peer.leave()
        telling.known.set()
        await settle()
        assert len(telling.asked) == 1
        assert len(peer.pieces) == pieces
