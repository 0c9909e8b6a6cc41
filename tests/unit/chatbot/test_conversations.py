"""Turns of a conversation on a virtual clock: one after the other, with what was said before."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.outcome import Outcome
from chatbot.record import Record
from chatbot.waiting import Waiting
from runtime.errors import (
    Conflict,
    ConversationBusy,
    Draining,
    NotCached,
    NotFound,
    QueueFull,
)
from tests.fakes.conversations import MemoryConversations, answered, contents, conversations, running, say
from tests.fakes.pipeline import pipeline
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@virtual
async def test_the_second_turn_is_asked_with_the_first() -> None:
    """Row 6: its prompt has both messages of the first, and the history lists both turns in order."""
    async with pipeline() as pipe:
        talk = conversations(pipe)
        first = await answered(pipe, talk, await say(pipe, talk, "one"))
        second = await answered(pipe, talk, await say(pipe, talk, "two"))
        answer = "".join(chunk.text for chunk in first.chunks())
        assert contents(pipe.model.asked("two")[0]) == ["one", answer, "two"]
        shown = await talk.show("c", "t")
        assert [turn["id"] for turn in shown["turns"]] == [first.ticket.id, second.ticket.id]
        assert shown["turns"][0]["answer"] == answer
        assert (shown["running"], shown["waiting"]) == (None, [])


@virtual
async def test_a_turn_waits_for_the_one_before_it_and_holds_nothing() -> None:
    """Its history is not complete before: it is queued, first of those who wait, in no stage at all."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        found = await say(pipe, talk, "two")
        assert isinstance(found, Waiting)
        shown = found.snapshot()
        assert (shown["status"], shown["stage"], shown["queue_position"]) == ("queued", "conversation", 1)
        assert pipe.leaders.stats().waiting == 0
        assert len(pipe.broadcasts.running) == 1
        await asyncio.sleep(30)
        assert isinstance(await talk.seek(found.ticket.id, "t"), Waiting)
        call.say("answer")
        call.complete()
        await settle()
        record = await talk.seek(found.ticket.id, "t")
        assert isinstance(record, Record), "woken, not found by looking again"
        await pipe.read(record)
        assert contents(pipe.model.asked("two")[0]) == ["one", "answer", "two"]


@virtual
async def test_four_wait_in_order_and_a_fifth_is_refused() -> None:
    """Each is asked with all before it; one too many is told so at once, and leaves nothing behind."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "0")
        waiting = [await say(pipe, talk, f"{number}") for number in range(1, 5)]
        assert [found.progress().queue_position for found in waiting] == [1, 2, 3, 4]
        with pytest.raises(ConversationBusy):
            await say(pipe, talk, "5")
        elsewhere = await say(pipe, talk, "elsewhere", "another")
        assert isinstance(elsewhere, Record), "another conversation goes on"
        await answered(pipe, talk, elsewhere)
        readers = [group.create_task(answered(pipe, talk, found)) for found in waiting]
        call.say("a")
        call.complete()
        ended = [await reader for reader in readers]
        turns = (await talk.show("c", "t"))["turns"]
        assert [turn["messages"][0]["content"] for turn in turns] == ["0", "1", "2", "3", "4"]
        assert [turn["id"] for turn in turns[1:]] == [record.ticket.id for record in ended]
        assert contents(pipe.model.asked("4")[0])[::2] == ["0", "1", "2", "3", "4"]


@virtual
@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_the_next_turn_goes_on_without_one_that_had_no_answer(how: str) -> None:
    """Whatever ends it: what was not answered in full was not said."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        call.say("half an ans")
        await settle()
        found = await say(pipe, talk, "two")
        if how == "failed":
            call.fail(RuntimeError("not of the model's kind"))
        else:
            (record,) = pipe.records.running()
            pipe.cancel(record)
        await answered(pipe, talk, found)
        assert contents(pipe.model.asked("two")[0]) == ["two"]
        assert len((await talk.show("c", "t"))["turns"]) == 1


@virtual
async def test_whoever_waits_can_be_cancelled() -> None:
    """At once, for good, and those behind it move up."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        second, third = await say(pipe, talk, "two"), await say(pipe, talk, "three")
        record = await talk.stop(second.ticket.id, "t")
        assert pipe.status(record) == "cancelled"
        assert (await talk.stop(second.ticket.id, "t")) is record, "a repeat changes nothing"
        assert (await pipe.read(record)).outcome is Outcome.CANCELLED
        await asyncio.sleep(1.1)
        assert third.progress().queue_position == 1
        call.complete()
        last = await answered(pipe, talk, third)
        assert last.claim.ended is not None
        assert pipe.model.asked("two") == []
        with pytest.raises(Conflict):
            await talk.stop(last.ticket.id, "t")


@virtual
async def test_a_whole_conversation_is_cancelled_by_one_call() -> None:
    """Row 5: what runs and what waits; another conversation, and another tenant's, go on."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        await running(pipe, talk, group, "one")
        waiting = [await say(pipe, talk, "two"), await say(pipe, talk, "three")]
        other = await say(pipe, talk, "other", "d")
        foreign = await say(pipe, talk, "foreign", "c", tenant="u")
        cancelled = await talk.cancel("c", "t")
        assert len(cancelled) == 3
        assert cancelled[1:] == [found.ticket.id for found in waiting]
        for id in cancelled:
            record = await talk.seek(id, "t")
            assert isinstance(record, Record)
            assert pipe.status(record) == "cancelled"
        await settle()
        assert [len(pipe.model.asked(prompt)) for prompt in ("two", "three")] == [0, 0]
        for found in (other, foreign):
            assert (await answered(pipe, talk, found)).claim.ended.outcome is Outcome.COMPLETED  # type: ignore[union-attr]
        with pytest.raises(NotFound):
            await talk.cancel("c", "t")


@virtual
async def test_nobody_waits_for_ever() -> None:
    """The queue timer is its own: `expired`, and the one behind it is not held up."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        found = await say(pipe, talk, "two")
        await asyncio.sleep(pipe.limits.queue_s - 1)
        later = await say(pipe, talk, "three")
        assert isinstance(await talk.seek(found.ticket.id, "t"), Waiting)
        await asyncio.sleep(1.1)
        record = await talk.seek(found.ticket.id, "t")
        assert isinstance(record, Record)
        assert pipe.status(record) == "expired"
        assert record.claim.ended is not None
        assert record.claim.ended.error is not None
        assert record.claim.ended.error.code == "queue_timeout"
        assert record.timings()["queue_ms"] == pytest.approx(pipe.limits.queue_s * 1000, abs=1)
        call.complete()
        await answered(pipe, talk, later)
        assert contents(pipe.model.asked("three")[0]) == ["one", "", "three"]


@virtual
async def test_a_drain_ends_what_waits() -> None:
    """It would not be asked any more: its stream ends with `draining` instead of silence."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        found = await say(pipe, talk, "two")
        pipe.manager.begin_drain()
        talk.begin_drain()
        record = await talk.seek(found.ticket.id, "t")
        assert isinstance(record, Record)
        assert record.claim.ended is not None
        assert isinstance(record.claim.ended.error, Draining)
        with pytest.raises(Draining):
            await say(pipe, talk, "three")
        call.complete()
        await talk.close()
        assert len((await talk.show("c", "t"))["turns"]) == 1, "what ran has been written"


@virtual
async def test_what_is_refused_when_its_time_comes_ends_as_that() -> None:
    """It was admitted with a 202: what becomes of it is in its record."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        found = await say(pipe, talk, "two", only_if_cached=True)
        assert isinstance(found, Waiting)
        call.complete()
        record = await answered(pipe, talk, found)
        assert pipe.status(record) == "failed"
        assert record.claim.ended is not None
        assert isinstance(record.claim.ended.error, NotCached)


@virtual
async def test_a_full_queue_refuses_a_first_turn_as_any_request() -> None:
    """Nothing of it stays: the line is free for the next."""
    async with pipeline(leaders=1, queue=0) as pipe:
        talk = conversations(pipe)
        pipe.hold("leaders")
        with pytest.raises(QueueFull):
            await say(pipe, talk, "one")
        await settle()
        pipe.let_go()
        await answered(pipe, talk, await say(pipe, talk, "two"))


@virtual
async def test_what_runs_long_keeps_its_place() -> None:
    """Its lease is ten seconds, its answer takes a minute: nobody is let in beside it."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        await asyncio.sleep(55)
        found = await say(pipe, talk, "two")
        assert isinstance(found, Waiting)
        call.complete()
        await answered(pipe, talk, found)


@virtual
async def test_fifty_conversations_at_once() -> None:
    """Three turns each, all submitted together: 150 answers, every one with its own history alone."""
    async with pipeline(leaders=4, streams=4, queue=200, pending=200, followers=8) as pipe:
        talk = conversations(pipe, MemoryConversations(lag_s=0.001))

        async def one(number: int) -> list[str]:
            for turn in range(3):
                found = await say(pipe, talk, f"{number}/{turn}", f"c{number}")
                await answered(pipe, talk, found)
            return contents(pipe.model.asked(f"{number}/2")[0])[::2]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(50)]
        for number, task in enumerate(tasks):
            assert task.result() == [f"{number}/{turn}" for turn in range(3)]


@virtual
async def test_two_submits_at_the_same_moment_are_two_turns_in_one_order() -> None:
    """Whoever is second is asked with the first."""
    async with pipeline() as pipe:
        talk = conversations(pipe, MemoryConversations(lag_s=0.001))
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(say(pipe, talk, prompt)) for prompt in ("a", "b")]
        async with asyncio.TaskGroup() as group:
            for task in both:
                group.create_task(answered(pipe, talk, task.result()))
        lengths = [len(contents(pipe.model.asked(prompt)[0])) for prompt in "ab"]
        assert sorted(lengths) == [1, 3]
