"""What is kept of a conversation, on a virtual clock: once, in order, its tenant's alone."""

from __future__ import annotations

import asyncio

import pytest

from chatbot.behind import BEAT_S
from chatbot.conversations import Conversations
from chatbot.record import Record, Role
from runtime.errors import (
    Conflict,
    ConversationUnavailable,
    NotCached,
    NotFound,
)
from tests.fakes.conversations import MemoryConversations, answered, contents, conversations, running, say
from tests.fakes.pipeline import Pipeline, pipeline
from tests.virtual_time import virtual


async def begins_anew(pipe: Pipeline, talk: Conversations, question: str) -> None:
    """It was asked alone, and is all that is kept."""
    assert contents(pipe.model.asked(question)[0]) == [question]
    turns = (await talk.show("c", "t"))["turns"]
    assert [turn["messages"][0]["content"] for turn in turns] == [question]


@virtual
async def test_a_turn_that_runs_adds_nothing_to_what_was_deleted_meanwhile() -> None:
    """Forgotten is forgotten; the next one begins anew and is kept."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        await answered(pipe, talk, await say(pipe, talk, "zero"))
        call = await running(pipe, talk, group, "one")
        found = await say(pipe, talk, "two")
        await talk.forget("c", "t")
        call.complete()
        await answered(pipe, talk, found)
        await begins_anew(pipe, talk, "two")


@virtual
async def test_what_runs_long_adds_nothing_to_what_was_deleted_meanwhile() -> None:
    """It says several times that it still runs: none of these makes it one that began after the DELETE."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        await asyncio.sleep(1.5 * BEAT_S)
        await talk.forget("c", "t")
        await asyncio.sleep(2 * BEAT_S)
        found = await say(pipe, talk, "two")
        call.complete()
        await answered(pipe, talk, found)
        await begins_anew(pipe, talk, "two")


@virtual
async def test_a_turn_that_has_ended_otherwise_for_others_is_not_kept() -> None:
    """A reader elsewhere was told that it is cancelled: its answer, complete here, was not said."""
    async with pipeline() as pipe:

        async def told(record: Record) -> None:
            await asyncio.sleep(0.5)  # Redis is asked, and knows of another end
            record.overruled = pipe.prompts[record.ticket.id] == "one"

        talk = conversations(pipe, told=told)
        await answered(pipe, talk, await say(pipe, talk, "one"))
        await answered(pipe, talk, await say(pipe, talk, "two"))
        assert contents(pipe.model.asked("two")[0]) == ["two"]
        await asyncio.sleep(1)
        turns = (await talk.show("c", "t"))["turns"]
        assert [turn["messages"][0]["content"] for turn in turns] == ["two"]


@virtual
async def test_another_end_that_is_heard_late_counts_too() -> None:
    """Redis was away when it ended: what all know is heard before anything is written."""
    async with pipeline() as pipe:
        store = MemoryConversations()

        async def told(record: Record) -> None:
            record.overruled = not store.down

        talk = conversations(pipe, store, told=told)
        pipe.model.by_hand.add("one")
        first = await say(pipe, talk, "one")
        assert isinstance(first, Record)
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(first))
            call = await pipe.model.call("one")
            store.down = True
            call.complete()
        await asyncio.sleep(2)
        store.down = False
        await asyncio.sleep(1)
        with pytest.raises(NotFound):
            await talk.show("c", "t")


@virtual
async def test_a_foreign_conversation_is_an_unknown_one() -> None:
    """The same name under another tenant is another conversation, and its turns are nobody else's."""
    async with pipeline() as pipe:
        talk = conversations(pipe)
        record = await answered(pipe, talk, await say(pipe, talk, "mine"))
        with pytest.raises(NotFound) as foreign:
            await talk.show("c", "u")
        with pytest.raises(NotFound) as unknown:
            await talk.show("nothing", "t")
        assert foreign.value.message == unknown.value.message
        for refused in (talk.forget("c", "u"), talk.cancel("c", "u"), talk.seek(record.ticket.id, "u")):
            with pytest.raises(NotFound):
                await refused
        await answered(pipe, talk, await say(pipe, talk, "theirs", tenant="u"))
        assert contents(pipe.model.asked("theirs")[0]) == ["theirs"]


@virtual
async def test_a_repeated_submit_is_the_same_turn() -> None:
    """While it waits and after it has ended; another question under that name is a conflict."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        talk = conversations(pipe)
        call = await running(pipe, talk, group, "one")
        found = await say(pipe, talk, "two", request_id="r")
        again = await say(pipe, talk, "two", request_id="r")
        assert again is found
        for prompt, conversation in (("other", "c"), ("two", "d")):
            with pytest.raises(Conflict):
                await say(pipe, talk, prompt, conversation, request_id="r")
        call.complete()
        record = await answered(pipe, talk, found)
        assert await say(pipe, talk, "two", request_id="r") is record
        assert len((await talk.show("c", "t"))["turns"]) == 2
        assert len(pipe.model.asked("two")) == 1


@virtual
async def test_a_refused_submit_does_not_use_up_its_request_id() -> None:
    """The caller is told to come back: it comes back with the same one."""
    async with pipeline() as pipe:
        store = MemoryConversations()
        talk = conversations(pipe, store)
        store.down = True
        with pytest.raises(ConversationUnavailable):
            await say(pipe, talk, "one", request_id="r")
        store.down = False
        assert isinstance(await answered(pipe, talk, await say(pipe, talk, "one", request_id="r")), Record)


@virtual
async def test_two_with_the_same_history_share_an_answer() -> None:
    """The key is over what is asked, not over who asks in which conversation."""
    async with pipeline() as pipe:
        talk = conversations(pipe)
        for conversation in ("c", "d"):
            await answered(pipe, talk, await say(pipe, talk, "one", conversation))
        roles = [(await answered(pipe, talk, await say(pipe, talk, "two", name))).role for name in "cd"]
        assert roles == [Role.LEADER, Role.CACHED]
        assert len(pipe.model.calls) == 2
        other = await answered(pipe, talk, await say(pipe, talk, "two", "e"))
        assert other.role is Role.LEADER, "without that history it is another question"


@virtual
async def test_what_the_cache_may_do_holds_for_a_turn_too() -> None:
    """`cache: false` asks anew and is not shared; its turn is kept: that is what a conversation is for."""
    async with pipeline() as pipe:
        talk = conversations(pipe)
        for conversation in ("c", "d"):
            await answered(pipe, talk, await say(pipe, talk, "one", conversation, no_store=True))
        assert len(pipe.model.calls) == 2
        assert len((await talk.show("d", "t"))["turns"]) == 1
        with pytest.raises(NotCached):
            await say(pipe, talk, "two", only_if_cached=True)
        assert len((await talk.show("c", "t"))["turns"]) == 1
        assert (await talk.show("c", "t"))["running"] is None


@virtual
async def test_without_redis_nothing_is_asked_without_its_history() -> None:
    """A typed refusal that may be retried, on every route of a conversation."""
    async with pipeline() as pipe:
        store = MemoryConversations()
        talk = conversations(pipe, store)
        store.down = True
        for refused in (
            say(pipe, talk, "one"),
            talk.show("c", "t"),
            talk.forget("c", "t"),
            talk.cancel("c", "t"),
        ):
            with pytest.raises(ConversationUnavailable) as told:
                await refused
            assert told.value.retryable
        assert pipe.model.calls == []


@virtual
async def test_an_end_that_cannot_be_written_is_tried_again() -> None:
    """The next turn waits for it: an answer that was read is part of what was said."""
    async with pipeline() as pipe:
        store = MemoryConversations()
        talk = conversations(pipe, store)
        pipe.model.by_hand.add("one")
        first = await say(pipe, talk, "one")
        assert isinstance(first, Record)
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(first))
            call = await pipe.model.call("one")
            store.down = True
            call.say("said")
            call.complete()
        await asyncio.sleep(5)
        with pytest.raises(ConversationUnavailable):
            await say(pipe, talk, "two")
        store.down = False
        await answered(pipe, talk, await say(pipe, talk, "two"))
        assert contents(pipe.model.asked("two")[0]) == ["one", "said", "two"]


@virtual
async def test_a_turn_that_redis_does_not_take_is_given_up() -> None:
    """Full, say: the conversation goes on without it, instead of standing still."""
    async with pipeline() as pipe:
        store = MemoryConversations()
        talk = conversations(pipe, store)
        store.refused = True
        await answered(pipe, talk, await say(pipe, talk, "one"))
        await asyncio.sleep(2)
        await answered(pipe, talk, await say(pipe, talk, "two"))
        assert contents(pipe.model.asked("two")[0]) == ["two"]
        await asyncio.sleep(2)
