"""The readers of a native stream: who leaves, who comes back, and who takes nothing."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.front import front
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@pytest.mark.parametrize("phase", ["queued", "preparing", "waiting_slot", "streaming"])
@virtual
async def test_a_reader_that_leaves_is_let_go_at_once_in_every_phase(phase: str) -> None:
    """Disconnect is noticed without a write and without a timer, and is a detach: the request lives on."""
    async with front(leaders=1, streams=1, hook=True) as gate, asyncio.TaskGroup() as group:
        release, target = await gate.bring_to(group, phase)
        peer = await gate.listen(group, target)
        record = gate.record(target.split("/")[2])
        assert len(record.broadcast.readers) == 1
        peer.leave()
        await settle()
        assert not record.broadcast.readers
        assert record.claim.connections == 0
        assert record.claim.ended is None
        again = await gate.listen(group, target)
        release()
    assert again.end.name == "done"


@virtual
async def test_a_reader_that_comes_back_within_the_grace_continues_where_it_was() -> None:
    """Row 42 and 43: the answer goes on meanwhile, and nothing is missed or repeated."""
    async with front(grace_s=5.0) as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        url = (await gate.submit("q"))["stream_url"]
        first = await gate.listen(group, url)
        call = await gate.model.call("q")
        call.say("a")
        await settle()
        first.leave()
        await asyncio.sleep(4.0)
        call.say("b")
        await settle()
        second = await gate.listen(group, url, last_event_id=first.events[-1].id)
        call.say("c")
        call.complete()
    assert (first.text, second.text) == ("a", "bc")
    assert not first.complete
    assert len(gate.model.asked("q")) == 1


@virtual
async def test_an_answer_that_nobody_comes_back_for_is_abandoned_after_the_grace() -> None:
    """Row 42: and a late reader is told so, by one event."""
    async with front(grace_s=5.0) as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        url = (await gate.submit("q"))["stream_url"]
        first = await gate.listen(group, url)
        call = await gate.model.call("q")
        first.leave()
        await settle()
        await asyncio.sleep(4.9)
        assert call.open
        await asyncio.sleep(0.2)
        await settle()
        assert not call.open
        late = await gate.get(url)
    assert (late.end.name, late.end.json) == ("cancelled", {"reason": "abandoned"})


@virtual
async def test_a_reader_that_takes_nothing_is_cut_alone_and_may_resume() -> None:
    """Row 29: the frozen one is dropped after the send timeout; the others never notice."""
    async with front(send_timeout_s=10.0) as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        url = (await gate.submit("q"))["stream_url"]
        frozen, brisk = await gate.listen(group, url), await gate.listen(group, url)
        call = await gate.model.call("q")
        call.say("a")
        await settle()
        frozen.reading.clear()
        for _ in range(4):
            call.say("b")
            await asyncio.sleep(2.0)
            assert brisk.text.endswith("b")
        assert not frozen.aborted
        await asyncio.sleep(2.5)
        await settle()
        assert frozen.aborted
        assert gate.connections.cut == 1
        assert not frozen.complete
        call.complete()
        resumed = await gate.get(url, {"last-event-id": frozen.events[-1].id})
    assert brisk.text == "abbbb"
    assert frozen.text + resumed.text == brisk.text
    assert (brisk.end.data, brisk.end.id) == (resumed.end.data, resumed.end.id)


@virtual
async def test_a_lagging_reader_gets_all_it_missed_in_one_write() -> None:
    """Row 27: nothing is dropped from the middle, and what waits is one piece."""
    async with front() as gate, asyncio.TaskGroup() as group:
        gate.model.by_hand.add("q")
        peer = await gate.listen(group, (await gate.submit("q"))["stream_url"])
        call = await gate.model.call("q")
        await settle()
        call.say("0")
        await settle()
        peer.reading.clear()
        call.say("1")
        await settle()
        before = len(peer.pieces)
        for number in range(2, 302):
            call.say(f" {number}")
        await settle()
        peer.reading.set()
        await settle()
        assert len(peer.pieces) == before + 2
        call.complete()
    assert peer.text == "01" + "".join(f" {number}" for number in range(2, 302))
