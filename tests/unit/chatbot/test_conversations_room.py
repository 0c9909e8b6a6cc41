"""Turns that wait are bounded in all, and one that was told that it waits is not refused for want of room."""

from __future__ import annotations

import asyncio

import pytest

from chatbot.record import Record
from chatbot.waiting import Waiting
from runtime.errors import NotFound, QueueFull
from tests.fakes.conversations import answered, contents, conversations, running, say
from tests.fakes.pipeline import pipeline
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@virtual
async def test_one_too_many_over_all_conversations_is_refused_and_leaves_nothing() -> None:
    """Each holds a whole request in memory: they are bounded as the queue is. Its caller may come again."""
    async with pipeline(queue=3) as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        other = await say(pipe, talk, "one", "d")
        assert isinstance(other, Record), "it shares the answer, and runs"
        group.create_task(answered(pipe, talk, other))
        waiting = [await say(pipe, talk, "two"), await say(pipe, talk, "three")]
        assert talk.waiting == 2
        waiting.append(await say(pipe, talk, "four", "d"))
        line = (await talk.show("d", "t"))["waiting"]
        for _ in range(2):
            with pytest.raises(QueueFull):
                await say(pipe, talk, "five", "d", request_id="r")
            await settle()
        assert (await talk.show("d", "t"))["waiting"] == line == [waiting[2].ticket.id]
        assert talk.waiting == 3
        elsewhere = await say(pipe, talk, "first", "e")
        assert isinstance(elsewhere, Record), "who does not wait is not refused"
        await answered(pipe, talk, elsewhere)
        await talk.stop(waiting[1].ticket.id, "t")
        await settle()
        assert talk.waiting == 2, "there is room again"
        again = await say(pipe, talk, "five", "d", request_id="r")
        call.complete()
        for found in (waiting[0], waiting[2], again):
            await answered(pipe, talk, found)
        assert talk.waiting == 0
        assert contents(pipe.model.asked("five")[0])[::2] == ["one", "four", "five"]


@virtual
async def test_who_was_told_that_it_waits_goes_on_waiting_when_the_queue_is_full() -> None:
    """It was admitted with a 202. It looks again, keeps its place, and is asked when there is room."""
    async with pipeline(queue=2) as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        second, third = await say(pipe, talk, "two"), await say(pipe, talk, "three")
        pipe.hold("leaders")
        ahead = [group.create_task(pipe.ask_and_read(f"ahead {number}")) for number in range(2)]
        await settle()
        assert pipe.leaders.stats().waiting == 2
        call.say("said")
        call.complete()
        await asyncio.sleep(10)
        for found in (second, third):
            assert isinstance(await talk.seek(found.ticket.id, "t"), Waiting)
        assert pipe.model.asked("two") == []
        pipe.let_go()
        for found in (second, third):
            assert pipe.status(await answered(pipe, talk, found)) == "completed"
        assert contents(pipe.model.asked("three")[0])[:3] == ["one", "said", "two"]
        for one in ahead:
            await one


@virtual
async def test_who_is_cancelled_while_there_is_no_room_is_over_at_once() -> None:
    """And nothing of it is asked when there is room again."""
    async with pipeline(queue=1) as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        second = await say(pipe, talk, "two")
        pipe.hold("leaders")
        ahead = group.create_task(pipe.ask_and_read("ahead"))
        await settle()
        call.complete()
        await asyncio.sleep(3)
        await talk.stop(second.ticket.id, "t")
        await settle()
        assert (await talk.show("c", "t"))["running"] is None
        assert talk.waiting == 0
        pipe.let_go()
        await ahead
        assert pipe.model.asked("two") == []
        await talk.forget("c", "t")
        with pytest.raises(NotFound):
            await talk.show("c", "t")
