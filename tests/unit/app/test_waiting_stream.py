"""The stream of a turn that waits: its place, signs of life, and then its answer on the same connection."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.fakes.asgi import Peer
from tests.fakes.front import Front, beat, front
from tests.fakes.model import Call
from tests.fakes.turns import settle
from tests.virtual_time import virtual

PING = b": p\n\n"


async def talking(gate: Front, group: asyncio.TaskGroup) -> Call:
    """A conversation whose first turn is being answered."""
    gate.model.by_hand.add("one")
    await gate.listen(group, (await gate.submit("one", conversation_id="c"))["stream_url"])
    return await gate.model.call("one")


async def behind(gate: Front, message: str) -> Any:
    turn = await gate.submit(message, conversation_id="c")
    assert (turn["status"], turn["role"]) == ("queued", "leader")
    return turn


@virtual
async def test_it_waits_and_goes_on_with_the_answer() -> None:
    """One connection, one `retry:`, ids from the beginning, no reset: nothing had been shown."""
    async with front() as gate, asyncio.TaskGroup() as group:
        call = await talking(gate, group)
        turn = await behind(gate, "two")
        assert turn["queue_position"] == 1
        peer = await gate.listen(group, turn["stream_url"])
        assert peer.body.startswith(b"retry: ")
        assert b"\nid: 0-0\n\n" in peer.body
        assert peer.shown == [("queued", "conversation", 1)]
        call.say("said")
        call.complete()
        await settle()
        await beat()
        names = [event.name for event in peer.events]
        assert "reset" not in names
        assert peer.body.count(b"retry: ") == 1
        assert (peer.end.name, names.count("delta")) == ("done", 2)
        asked = gate.model.asked("two")[0].body["messages"]
        assert [message["content"] for message in asked] == ["one", "said", "two"]


@virtual
async def test_a_wait_is_never_silent() -> None:
    """A proxy cuts what says nothing: a comment every ten seconds, as on every stream."""
    async with front() as gate, asyncio.TaskGroup() as group:
        call = await talking(gate, group)
        peer = await gate.listen(group, (await behind(gate, "two"))["stream_url"])
        await asyncio.sleep(31)
        assert peer.body.count(PING) == 3
        call.complete()
        await beat()
        assert peer.end.name == "done"


@virtual
async def test_its_place_is_shown_as_it_moves_up() -> None:
    """Row 62: told on every change, and it never goes back."""
    async with front() as gate, asyncio.TaskGroup() as group:
        call = await talking(gate, group)
        second, third = await behind(gate, "two"), await behind(gate, "three")
        assert third["queue_position"] == 2
        peer = await gate.listen(group, third["stream_url"])
        assert (await gate.post(f"/chat/{second['id']}/cancel", {})).status == 200
        await asyncio.sleep(1.5)
        assert peer.shown == [("queued", "conversation", 2), ("queued", "conversation", 1)]
        shown = (await gate.get(f"/chat/{third['id']}")).json
        assert (shown["status"], shown["queue_position"], shown["text"]) == ("queued", 1, "")
        call.complete()
        await beat()
        assert peer.end.name == "done"


@virtual
async def test_a_cancel_ends_an_open_stream_without_delay() -> None:
    """Woken by the cancel itself, not by the next beat; a new reader is told the same, and then no more."""
    async with front() as gate, asyncio.TaskGroup() as group:
        call = await talking(gate, group)
        turn = await behind(gate, "two")
        peer = await gate.listen(group, turn["stream_url"])
        reply = await gate.post(f"/chat/{turn['id']}/cancel", {})
        assert (reply.status, reply.json["status"]) == (200, "cancelled")
        await settle()
        assert peer.end.name == "cancelled"
        again = await gate.get(turn["stream_url"])
        assert [event.name for event in again.events] == ["cancelled"]
        seen = await gate.get(turn["stream_url"], {"last-event-id": again.end.id})
        assert seen.status == 204
        call.complete()


@virtual
async def test_a_reader_that_leaves_takes_nothing_with_it() -> None:
    """Its turn keeps its place; whoever comes back starts from the beginning, and nowhere else."""
    async with front() as gate, asyncio.TaskGroup() as group:
        call = await talking(gate, group)
        turn = await behind(gate, "two")
        peer = await gate.listen(group, turn["stream_url"])
        peer.leave()
        await settle()
        assert (await gate.get(f"/chat/{turn['id']}")).json["status"] == "queued"
        for cursor, status in (("0-1", 400), ("7-0", 400), ("x", 400)):
            assert (await gate.get(turn["stream_url"], {"last-event-id": cursor})).status == status
        head = await gate.head(turn["stream_url"])
        assert (head.status, head.body) == (200, b"")
        back = await gate.listen(group, turn["stream_url"], last_event_id="0-0")
        assert back.shown == [("queued", "conversation", 1)]
        call.complete()
        await beat()
        assert back.end.name == "done"


@virtual
async def test_a_drain_is_told_on_the_open_stream() -> None:
    """A `failed` with its code, and not an end without a word."""
    async with front() as gate, asyncio.TaskGroup() as group:
        call = await talking(gate, group)
        peer = await gate.listen(group, (await behind(gate, "two"))["stream_url"])
        gate.manager.begin_drain()
        gate.conversations.begin_drain()
        await settle()
        assert (peer.end.name, peer.end.json["code"]) == ("failed", "draining")
        assert (await gate.post("/chat", {"message": "x", "conversation_id": "c"})).status == 503
        call.complete()


@virtual
async def test_the_routes_of_a_conversation() -> None:
    """Shown, cancelled as a whole, forgotten, and then unknown; 401 without a key where there are some."""
    async with front() as gate, asyncio.TaskGroup() as group:
        await talking(gate, group)
        second = await behind(gate, "two")
        shown = (await gate.get("/conversations/c")).json
        assert (shown["id"], shown["turns"], shown["waiting"]) == ("c", [], [second["id"]])
        cancelled = (await gate.post("/conversations/c/cancel", {})).json["cancelled"]
        assert cancelled == [shown["running"], second["id"]]
        await settle()
        assert (await gate.get("/conversations/c")).status == 404
        done = await gate.get((await gate.submit("three", conversation_id="c"))["stream_url"])
        assert done.end.name == "done"
        await settle()
        assert (await gate._call(Peer("DELETE", "/conversations/c"))).status == 204
        assert (await gate._call(Peer("DELETE", "/conversations/c"))).status == 404
    async with front(keys={"k": "t"}) as gate:
        assert (await gate.get("/conversations/c")).status == 401


@virtual
async def test_one_too_many_is_a_conflict_with_its_reason() -> None:
    """409 with `x-refrain-reason`, counted as refused like every refusal."""
    async with front() as gate, asyncio.TaskGroup() as group:
        call = await talking(gate, group)
        for number in range(4):
            await behind(gate, f"{number}")
        refused = await gate.post("/chat", {"message": "x", "conversation_id": "c"})
        assert (refused.status, refused.json["error"]["code"]) == (409, "conversation_busy")
        assert refused.headers["x-refrain-reason"] == "conversation_busy"
        assert "retry-after" not in refused.headers
        assert gate.observer.totals["refused"] == 1
        await gate.post("/conversations/c/cancel", {})
        call.complete()
