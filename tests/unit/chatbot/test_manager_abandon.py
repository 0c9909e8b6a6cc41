"""When everybody has left: the grace, the policy, and what counts as a wish to stop."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from chatbot.record import Role
from chatbot.via import NATIVE, OPENAI, Via
from tests.fakes.pipeline import pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual


@pytest.mark.parametrize("finish", [False, True])
def test_an_abandoned_stream_follows_the_policy(finish: bool) -> None:
    """`cancel` stops the upstream; `finish` lets it run for the cache, so that the next one has a hit."""

    @virtual
    async def follows() -> None:
        async with pipeline(finish=finish) as pipe, asyncio.TaskGroup() as group:
            pipe.model.by_hand.add("q")
            reading = group.create_task(pipe.ask_and_read("q"))
            call = await pipe.model.call("q")
            call.say("1: all")
            await settle()
            reading.cancel()
            await settle()
            assert call.open is finish
            call.complete()
            await settle()
            pipe.model.by_hand.clear()
            again = await pipe.ask("q")
            assert again.role is (Role.CACHED if finish else Role.LEADER)

    follows()


@virtual
async def test_an_explicit_cancel_is_never_finished() -> None:
    """The client said stop: the tokens are not paid for, whatever the policy."""
    async with pipeline(finish=True) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        group.create_task(pipe.read(record))
        call = await pipe.model.call("q")
        call.say("1")
        await settle()
        pipe.cancel(record)
        await settle()
        assert not call.open


@virtual
async def test_a_native_reader_of_a_finished_stream_finds_it_complete() -> None:
    """It came back after the grace: the answer went on without it, and is its own."""
    async with pipeline(finish=True) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        reading = group.create_task(pipe.read(record))
        call = await pipe.model.call("q")
        call.say("1: all")
        await settle()
        reading.cancel()
        await asyncio.sleep(60)
        call.say(" of it")
        call.complete()
        await settle()
        got = await pipe.read(record)
        assert (got.text, got.outcome) == ("1: all of it", Outcome.COMPLETED)


@virtual
async def test_nothing_is_finished_that_does_not_stream() -> None:
    """`finish` is for streams: whoever leaves the queue leaves nothing behind."""
    async with pipeline(finish=True) as pipe, asyncio.TaskGroup() as group:
        pipe.hold("llm_streams")
        asking = group.create_task(pipe.ask_and_read("q"))
        await settle()
        asking.cancel()
        await settle()
        assert pipe.broadcasts.running == {}


@virtual
async def test_a_follower_may_wait_for_its_permit_as_long_as_it_takes() -> None:
    """Rule 7, row 25: what is bounded is how long it holds it; all who wait are finally served."""
    async with pipeline(followers=1) as pipe:
        leader = await pipe.ask("q")
        pipe.hold("followers")
        async with asyncio.TaskGroup() as group:
            followers = [group.create_task(pipe.ask("q")) for _ in range(5)]
            await asyncio.sleep(30)
            pipe.let_go()
        assert {follower.result().role for follower in followers} == {Role.FOLLOWER}
        assert (await pipe.read(leader)).outcome is Outcome.COMPLETED


@virtual
async def test_a_follower_that_is_cut_while_attaching_does_not_end_a_finishing_stream() -> None:
    """A disconnect is no explicit cancel, wherever it comes."""
    async with pipeline(finish=True, followers=1) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        leading = group.create_task(pipe.ask_and_read("q"))
        call = await pipe.model.call("q")
        call.say("1")
        await settle()
        pipe.hold("followers")
        following = group.create_task(pipe.ask("q", OPENAI))
        await settle()
        leading.cancel()
        await settle()
        following.cancel()
        await settle()
        assert call.open
        call.complete()
        await until(lambda: not pipe.broadcasts.running)
        assert pipe.records.made[0].broadcast.phase is Phase.SEALED


@pytest.mark.parametrize("via", [NATIVE, OPENAI], ids=["native", "openai"])
def test_a_follower_that_is_cut_while_attaching_has_ended(via: Via) -> None:
    """Nobody will ever read it: it must not keep its flight running, nor asking for a slot."""

    @virtual
    async def ended() -> None:
        async with pipeline(followers=1) as pipe, asyncio.TaskGroup() as group:
            leader = await pipe.ask("q")
            pipe.hold("followers", "llm_streams")
            following = group.create_task(pipe.ask("q", via))
            await settle()
            assert pipe.status(leader) == ("ready" if via.native else "waiting_slot")
            following.cancel()
            await settle()
            end = pipe.records.made[1].claim.ended
            assert end is not None
            assert (end.outcome, end.reason) == (Outcome.CANCELLED, "disconnected")
            assert leader.broadcast.phase is Phase.IDLE
            pipe.cancel(leader)
            assert pipe.broadcasts.running == {}

    ended()
