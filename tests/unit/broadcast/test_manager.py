"""The manager: places are bounded, waits are predicted, permits are held apart, the end is in order."""

from __future__ import annotations

import asyncio

import pytest

from admission import Priority
from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from chatbot.via import OPENAI
from runtime.errors import Draining, QueueFull, QueueTimeout, UpstreamRateLimited
from tests.fakes.pipeline import pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual


@virtual
async def test_every_limit_at_1_and_nobody_waits_for_ever() -> None:
    """Rule 12: all pools of one, every kind of step, many different questions: each is answered."""
    async with pipeline(leaders=1, followers=1, streams=1, calls=1, hook=True, planning=True) as pipe:
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(pipe.ask_and_read(f"q{number % 5}")) for number in range(20)]
        assert {ask.result().outcome for ask in asks} == {Outcome.COMPLETED}
        assert pipe.hook.peak == 1
        assert pipe.model.peak == {"llm_streams": 1, "llm_calls": 1}
        assert len(pipe.model.calls) == 10


@pytest.mark.parametrize("limit", [1, 3])
def test_the_peaks_outside_are_the_limits_exactly(limit: int) -> None:
    """Rows 15 and 17, rule 13: counted at the hook and at the model, neither one more nor one less."""

    @virtual
    async def peaks() -> None:
        async with pipeline(leaders=limit, streams=limit, hook=True) as pipe:
            async with asyncio.TaskGroup() as group:
                for number in range(limit * 4):
                    group.create_task(pipe.ask_and_read(f"q{number}"))
            assert pipe.hook.peak == limit
            assert pipe.model.peak["llm_streams"] == limit

    peaks()


@virtual
async def test_a_leaders_permit_is_for_preparation_only() -> None:
    """Rows 16 and 18: while one streams and another waits for the slot, a third still prepares."""
    async with pipeline(leaders=1, streams=1, hook=True) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("a")
        group.create_task(pipe.ask_and_read("a"))
        call = await pipe.model.call("a")
        group.create_task(pipe.ask_and_read("b"))
        ready = await pipe.ask("c")
        await settle()
        assert pipe.status(ready) == "ready"
        assert pipe.leaders.stats().in_use == 0
        slots = pipe.llm_streams.stats()
        assert (slots.in_use, slots.waiting) == (1, 1)
        call.complete()


@virtual
async def test_a_submit_beyond_max_pending_is_refused_before_any_work() -> None:
    """Prepared and unheard flights are bounded; duplicates and hits are never refused for it."""
    async with pipeline(pending=2) as pipe:
        await pipe.ask_and_read("cached")
        first, _ = await pipe.ask("a"), await pipe.ask("b")
        with pytest.raises(QueueFull):
            await pipe.ask("c")
        assert pipe.llm_streams.stats().refused == {"queue_full": 1}
        assert len(pipe.broadcasts.running) == 2
        await pipe.ask("a")
        await pipe.ask("cached")
        await pipe.read(first)
        assert pipe.status(await pipe.ask("c")) == "ready"


@virtual
async def test_a_wait_beyond_the_deadline_is_shed_now() -> None:
    """Not after a minute in the queue: the measured drain rate says it already, and when to come again."""
    async with pipeline(leaders=1, hook=True, queue_s=61) as pipe:
        pipe.hook.gate.clear()
        await pipe.ask("first")
        await asyncio.sleep(40)
        pipe.hook.gate.set()
        await settle()
        pipe.hook.gate.clear()
        await pipe.ask("second")
        await pipe.ask("third")
        with pytest.raises(QueueTimeout) as shed:
            await pipe.ask("fourth")
        assert shed.value.retry_after == pytest.approx(80 - 61)
        assert pipe.leaders.stats().refused == {"queue_timeout": 1}
        await pipe.ask("third")
        pipe.hook.gate.set()


@virtual
async def test_a_rate_limited_upstream_sheds_whoever_cannot_wait_that_long() -> None:
    """The slot wait counts too: a pause beyond the slot's deadline is a refusal at the door."""
    async with pipeline(slot_s=10) as pipe:
        pipe.model.errors["q"] = [UpstreamRateLimited(retry_after=25)]
        got = await pipe.ask_and_read("q")
        assert got.ended is not None
        assert isinstance(got.ended.error, UpstreamRateLimited)
        with pytest.raises(QueueTimeout):
            await pipe.ask("other")
        await asyncio.sleep(16)
        assert (await pipe.ask_and_read("other")).outcome is Outcome.COMPLETED


@virtual
async def test_leaders_start_by_class_then_by_age() -> None:
    """Row 26: among equals the oldest, and an interactive one before the batch ones of the last 30 s."""
    async with pipeline(leaders=1, hook=True) as pipe:
        pipe.hold("leaders")
        for prompt, priority, wait in [
            ("old batch", Priority.BATCH, 31),
            ("batch", Priority.BATCH, 1),
            ("first", Priority.INTERACTIVE, 1),
            ("second", Priority.INTERACTIVE, 0),
        ]:
            await pipe.ask(prompt, priority=priority)
            await asyncio.sleep(wait)
        pipe.let_go()
        await settle()
        assert pipe.hook.asked == ["old batch", "first", "second", "batch"]


@pytest.mark.parametrize("stage", ["leaders", "llm_streams"])
def test_a_batch_flight_has_the_turn_of_the_best_who_waits_for_it(stage: str) -> None:
    """No inversion: an interactive follower moves it up, and when that one leaves it falls back."""

    @virtual
    async def follows() -> None:
        async with pipeline(leaders=1, streams=1, hook=True) as pipe, asyncio.TaskGroup() as group:
            pipe.hold(stage)
            batch = await pipe.ask("batch", OPENAI, priority=Priority.BATCH)
            await asyncio.sleep(1)
            between = await pipe.ask("between", OPENAI)
            await asyncio.sleep(1)
            urgent = await pipe.ask("batch")
            await asyncio.sleep(1)
            readings = [group.create_task(pipe.read(record)) for record in (batch, between, urgent)]
            await settle()
            # The urgent one came after `between`: ahead of the class, behind that age.
            assert (batch.broadcast.position, between.broadcast.position) == (2, 1)
            late = await pipe.ask("late", OPENAI)
            readings.append(group.create_task(pipe.read(late)))
            await settle()
            assert (batch.broadcast.position, late.broadcast.position) == (2, 3)
            pipe.cancel(urgent)
            assert (batch.broadcast.position, late.broadcast.position) == (3, 2)
            pipe.let_go()
            for reading in readings:
                await until(reading.done)
            assert [call.prompt for call in pipe.model.calls] == ["between", "late", "batch"]

    follows()


@virtual
async def test_an_unwatched_broadcast_asks_for_nothing_and_expires() -> None:
    """Rows 19 and 20: no model call, and after the subscribe timeout everything is free."""
    async with pipeline(subscribe_s=71) as pipe:
        record = await pipe.ask("q")
        await asyncio.sleep(70.9)
        assert pipe.status(record) == "ready"
        assert pipe.llm_streams.stats().admitted == 0
        await asyncio.sleep(0.2)
        assert pipe.status(record) == "expired"
        assert record.broadcast.phase is Phase.EXPIRED
        assert (pipe.model.calls, len(pipe.flights)) == ([], 0)


@virtual
async def test_a_reader_that_leaves_the_slot_queue_frees_its_place() -> None:
    """And the one that comes back has its age: it goes before who came later."""
    async with pipeline(streams=1) as pipe, asyncio.TaskGroup() as group:
        pipe.hold("llm_streams")
        record = await pipe.ask("q")
        reading = group.create_task(pipe.read(record))
        await settle()
        assert pipe.llm_streams.stats().waiting == 1
        reading.cancel()
        await settle()
        assert pipe.llm_streams.stats().waiting == 0
        await asyncio.sleep(1)
        later = group.create_task(pipe.ask_and_read("later"))
        await settle()
        group.create_task(pipe.read(record))
        await settle()
        assert record.broadcast.position == 1
        pipe.let_go()
        await until(later.done)
        assert [call.prompt for call in pipe.model.calls] == ["q", "later"]


@virtual
async def test_draining_waits_for_what_is_heard_and_not_for_what_is_not() -> None:
    """Quiet means: nothing runs, or only answers that nobody has come for within their patience."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        await pipe.ask("unheard")
        group.create_task(pipe.ask_and_read("q"))
        call = await pipe.model.call("q")
        quiet = group.create_task(pipe.broadcasts.rest.come(5))
        await asyncio.sleep(20)
        assert not quiet.done()
        call.complete()
        await until(quiet.done)
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await pipe.broadcasts.rest.come(5)
        assert asyncio.get_running_loop().time() - began == 5
        pipe.broadcasts.end_all(Draining())
        await pipe.broadcasts.rest.come(5)
        assert asyncio.get_running_loop().time() - began == 5


@virtual
async def test_an_answer_beyond_the_bound_goes_on_for_its_readers_alone() -> None:
    """Those who read it read on; the next one with the same question leads, and the cache does not get it."""
    async with pipeline(log_bytes=2000) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        reading = group.create_task(pipe.ask_and_read("q"))
        call = await pipe.model.call("q")
        call.say("1" * 2000)
        await settle()
        twin = await pipe.ask("q")
        assert twin.broadcast is not pipe.records.made[0].broadcast
        call.say("end")
        call.complete()
        await until(reading.done)
        assert reading.result().text == call.said
        pipe.cancel(twin)
        pipe.model.by_hand.clear()
        assert (await pipe.ask_and_read("q")).text == "2: answer to q"


@virtual
async def test_a_broadcast_tells_its_state() -> None:
    """What a debugger or an error shows of one."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        assert "[idle, 1 claims, 0 connected, 0 events]" in repr(record.broadcast)
        assert repr(pipe.broadcasts) == "<BroadcastManager [1 running, 1 pending]>"
