"""The connections of `/v1` callers: who leaves, who cancels by id, and who takes nothing."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.pulse import BEAT_S
from broadcast.outcome import Outcome
from tests.fakes.front import COMPLETIONS, front, openai_body
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("phase", ["queued", "preparing", "waiting_slot", "asked", "streaming"])
@virtual
async def test_a_caller_that_leaves_ends_its_request_in_every_phase(phase: str, streamed: bool) -> None:
    """A `/v1` call is interested as long as its connection: what ran for it alone stops at once."""
    async with front(leaders=1, streams=1, hook=True) as gate, asyncio.TaskGroup() as group:
        if phase in ("queued", "preparing"):
            gate.pipe.hook.gate.clear()
        if phase == "queued":
            other = gate.open(group, gate.asking(COMPLETIONS, openai_body("other")))
            await settle()
        holder = await gate.hold(group) if phase == "waiting_slot" else None
        gate.model.by_hand.add("q")
        peer = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=streamed)))
        await settle()
        if phase == "streaming":
            (await gate.model.call("q")).say("some")
            await settle()
        record = gate.pipe.records.made[-1]
        peer.leave()
        await settle()
        assert record.claim.ended is not None
        assert record.claim.ended.outcome is Outcome.CANCELLED
        assert not any(call.open for call in gate.model.asked("q"))
        assert gate.pipe.leaders.stats().in_use == (phase == "queued")
        assert gate.pipe.llm_streams.stats().in_use == (phase == "waiting_slot")
        assert not peer.complete
        gate.pipe.hook.gate.set()
        if holder is not None:
            holder.complete()
    if phase == "queued":
        assert other.status == 200


@virtual
async def test_a_caller_that_leaves_takes_nobody_with_it() -> None:
    """Two callers of one question: the other's answer goes on."""
    async with front() as gate, asyncio.TaskGroup() as group:
        first, call = await gate.asked(group, "q", stream=True)
        second = gate.open(group, gate.asking(COMPLETIONS, openai_body("q", stream=True)))
        await settle()
        call.say("a")
        await settle()
        first.leave()
        await settle()
        assert call.open
        call.complete()
    assert second.events[-1].data == "[DONE]"
    assert not first.complete


@virtual
async def test_a_call_can_be_cancelled_by_its_id() -> None:
    """`x-refrain-id` works with the native routes while it runs: 409 before the headers, a frame after."""
    async with front() as gate, asyncio.TaskGroup() as group:
        peer, call = await gate.asked(group, "q", stream=True)
        whole = gate.open(group, gate.asking(COMPLETIONS, openai_body("q")))
        await settle()
        call.say("a")
        await settle()
        for id in (peer.headers["x-refrain-id"], gate.pipe.records.made[-1].ticket.id):
            cancelled = await gate.post(f"/chat/{id}/cancel", {})
            assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
        await settle()
        assert not call.open
        assert json.loads(peer.events[-1].data)["error"]["code"] == "cancelled"
        assert (whole.status, whole.error["code"]) == (409, "cancelled")


@virtual
async def test_a_stream_that_nobody_takes_is_cut_and_its_call_ends() -> None:
    """The frozen reader held a slot of the model: it is dropped after the send timeout, and all is free."""
    async with front(send_timeout_s=10.0) as gate, asyncio.TaskGroup() as group:
        peer, call = await gate.asked(group, "q", stream=True)
        call.say("a")
        await settle()
        peer.reading.clear()
        call.say("b")
        await asyncio.sleep(10.0)
        assert call.open
        await asyncio.sleep(2 * BEAT_S)
        assert (peer.aborted, call.open, gate.connections.cut) == (True, False, 1)


@virtual
async def test_a_whole_answer_that_nobody_takes_is_cut() -> None:
    """One object of megabytes freezes a connection just as a stream does."""
    async with front(send_timeout_s=10.0) as gate, asyncio.TaskGroup() as group:
        peer, call = await gate.asked(group, "q")
        peer.reading.clear()
        call.complete()
        await asyncio.sleep(10.0 + 2 * BEAT_S)
        cut = peer.aborted
        peer.leave()
    assert cut
    assert gate.connections.cut == 1
