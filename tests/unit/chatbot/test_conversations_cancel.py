"""Turns disturbed at every await and at every turn of the loop: the line is free afterwards, and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import pytest

from chatbot.conversations import Conversations
from chatbot.record import Record
from runtime.errors import Conflict, NotFound
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.conversations import MemoryConversations, conversations, say
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle, turns
from tests.virtual_time import virtual

#: More turns of the loop than a turn of a conversation takes from its submit to its flight.
ENOUGH = 40


async def read(pipe: Pipeline, talk: Conversations, id: str) -> Record:
    """To its end, whatever it is; it may still wait."""
    while not isinstance(found := await talk.seek(id, "t"), Record):
        await asyncio.sleep(0.05)
    await pipe.read(found)
    await settle()
    return found


async def ids_in_line(talk: Conversations) -> list[str]:
    try:
        shown = await talk.show("c", "t")
    except NotFound:
        return []
    return [*filter(None, [shown["running"]]), *shown["waiting"]]


@virtual
@pytest.mark.parametrize("moment", ["waiting", "granted"])
async def test_a_caller_that_is_gone_leaves_a_turn_that_ends(moment: Moment) -> None:
    """Its handler cancelled at every await: the turn goes on without it, and the line is free in the end."""
    async with pipeline() as pipe:
        talk = conversations(pipe, MemoryConversations(lag_s=0.01))
        number = 0

        async def submit() -> None:
            nonlocal number
            number += 1
            found = await say(pipe, talk, f"q{number}", request_id=f"r{number}")
            await read(pipe, talk, found.ticket.id)

        async def check(n: int) -> None:
            for id in await ids_in_line(talk):
                with suppress(Conflict):  # its end is being written
                    await talk.stop(id, "t")
            await asyncio.sleep(1)
            assert await ids_in_line(talk) == []
            assert len(pipe.flights) == 0

        assert await cancel_at_every_await(submit, check, moment=moment) >= 2


@virtual
@pytest.mark.parametrize("behind", [False, True], ids=["first", "behind"])
async def test_a_cancel_at_every_turn_of_the_loop(behind: bool) -> None:
    """While it enters, waits, is looked up, is asked: cancelled once, and the next turn is asked at once."""
    async with pipeline() as pipe:
        for number in range(ENOUGH):
            store = MemoryConversations()
            talk = conversations(pipe, store)
            blocker = await say(pipe, talk, f"blocker {number}") if behind else None
            async with asyncio.TaskGroup() as group:
                submit = group.create_task(say(pipe, talk, f"q{number}"))
                if blocker is not None:
                    await settle()
                    await talk.stop(blocker.ticket.id, "t")
                await turns(number)
                cancelled = await _cancel_last(talk)
            found = submit.result()
            record = await read(pipe, talk, found.ticket.id)
            ended = record.claim.ended
            assert ended is not None
            if found.ticket.id in cancelled:
                assert ended.outcome.value == "cancelled"
            following = await say(pipe, talk, f"after {number}")
            await read(pipe, talk, following.ticket.id)
            assert await ids_in_line(talk) == []


async def _cancel_last(talk: Conversations) -> list[str]:
    """Whoever stands last in line, by the call that cancels all."""
    try:
        return await talk.cancel("c", "t")
    except (NotFound, Conflict):
        return []


@virtual
@pytest.mark.parametrize("trouble", ["drain", "redis"])
async def test_trouble_at_every_turn_of_the_loop(trouble: str) -> None:
    """Whatever has been told a 202 has an end; whatever has not is refused; nothing is left."""

    async def strike(pipe: Pipeline, talk: Conversations, store: MemoryConversations) -> Callable[[], None]:
        if trouble == "drain":
            pipe.manager.begin_drain()
            talk.begin_drain()
        store.down = trouble == "redis"
        return lambda: setattr(store, "down", False)

    for number in range(0, ENOUGH, 2):
        async with pipeline() as pipe:
            store = MemoryConversations()
            talk = conversations(pipe, store)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_outcome(pipe, talk, f"{n}")) for n in range(3)]
                await turns(number)
                mend = await strike(pipe, talk, store)
                group.create_task(_later(mend))
            for task in tasks:
                assert task.result() in ("completed", "failed", "draining", "conversation_unavailable")
            await asyncio.sleep(15)
            assert await ids_in_line(talk) == []


async def _later(act: Callable[[], None]) -> None:
    await asyncio.sleep(3)
    act()


async def _outcome(pipe: Pipeline, talk: Conversations, prompt: str) -> str:
    try:
        found = await say(pipe, talk, prompt)
    except Exception as error:
        return str(getattr(error, "code", error))
    record = await read(pipe, talk, found.ticket.id)
    assert record.claim.ended is not None
    return record.claim.ended.outcome.value
