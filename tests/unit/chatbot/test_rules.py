"""The rules learned the hard way, by their numbers in the design: each of these mistakes has been made.

Rule 13 (a limit that nothing measures is none) is every test here that looks at a peak; rules 16 and 17
speak of what this process does not have: inner calls that share, and a janitor.
"""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from broadcast.subscription import Subscription
from chatbot.record import Role
from chatbot.via import OPENAI
from config import SettingsError, load
from runtime.errors import PrepareFailed
from tests.fakes.pipeline import pipeline, text_form
from tests.fakes.turns import settle, turns, until
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable


@virtual
async def test_rule_1_the_flight_covers_preparation_and_stream() -> None:
    """Singleflight around preparation only would make one stream per request."""
    async with pipeline(hook=True) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        reading = group.create_task(pipe.ask_and_read("q"))
        call = await pipe.model.call("q")
        assert pipe.hook.asked == ["q"]
        call.say("1: ")
        late = group.create_task(pipe.ask_and_read("q"))
        await settle()
        call.say("end")
        call.complete()
        await until(late.done)
        assert late.result().text == reading.result().text == "1: end"
        assert len(pipe.model.calls) == 1


@virtual
async def test_rule_2_one_key_never_holds_two_leader_permits() -> None:
    """Not even when all ask in the same turn, and also while the leader still waits for its own."""
    async with pipeline(leaders=5, hook=True) as pipe, asyncio.TaskGroup() as group:
        pipe.hook.gate.clear()
        for _ in range(20):
            group.create_task(pipe.ask_and_read("q"))
        await settle()
        stats = pipe.leaders.stats()
        assert (stats.in_use, stats.waiting) == (1, 0)
        pipe.hook.gate.set()


@virtual
async def test_rule_2_a_duplicate_of_a_waiting_leader_takes_no_place_in_the_queue() -> None:
    """The queue holds questions, not askers."""
    async with pipeline(leaders=1, queue=1) as pipe:
        pipe.hold("leaders")
        for _ in range(10):
            await pipe.ask("q")
        assert pipe.leaders.stats().waiting == 1


@virtual
async def test_rule_3_and_4_a_reader_that_takes_nothing_holds_up_nobody_and_loses_nothing() -> None:
    """Appending waits for no reader, and there is no buffer to overflow: the last event is there too."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        slow = await pipe.ask("q")
        frozen = Subscription(slow.broadcast.log)
        with pipe.manager.reading(slow, frozen):
            quick = group.create_task(pipe.ask_and_read("q"))
            call = await pipe.model.call("q")
            for number in range(5000):
                call.say(f"{number},")
            call.complete()
            await until(quick.done)
            assert quick.result().text == call.said
            assert frozen.take(text_form).decode() == call.said
            assert slow.claim.ended is not None


@virtual
async def test_rule_5_there_is_no_moment_without_flight_or_cache() -> None:
    """Rows 28 and 58: an identical request at every turn around the end of a stream never leads again."""
    async with pipeline(local_bytes=0) as pipe:
        for number in range(40):
            prompt = f"q{number}"
            async with asyncio.TaskGroup() as group:
                group.create_task(pipe.ask_and_read(prompt))
                await turns(number)
                again = group.create_task(pipe.ask_and_read(prompt))
            (call,) = pipe.model.asked(prompt)
            assert again.result().text == call.said


@virtual
async def test_rule_6_a_hit_waits_for_its_client() -> None:
    """The answer is complete before anybody listens: it must still be there when somebody does."""
    async with pipeline() as pipe:
        await pipe.ask_and_read("q")
        hit = await pipe.ask("q")
        assert hit.role is Role.CACHED
        await asyncio.sleep(500)
        assert (await pipe.read(hit)).text == "1: answer to q"


@virtual
async def test_rule_7_a_timer_does_not_include_the_time_in_the_queue() -> None:
    """59 s in the queue, 52 s of preparation, 70 s unheard, 126 s for a slot: none of them is too long."""
    async with pipeline(leaders=1, streams=1, hook=True) as pipe, asyncio.TaskGroup() as group:
        pipe.hold("leaders", "llm_streams")
        pipe.hook.gate.clear()
        record = await pipe.ask("q")
        await asyncio.sleep(60)
        pipe.let_go("leaders")
        await asyncio.sleep(52)
        pipe.hook.gate.set()
        await asyncio.sleep(70)
        reading = group.create_task(pipe.read(record))
        await asyncio.sleep(126)
        pipe.let_go()
        await until(reading.done)
        assert reading.result().outcome is Outcome.COMPLETED


def test_rule_8_an_inner_timeout_beyond_the_outer_one_refuses_to_start() -> None:
    """Row 54: every failure would carry the wrong name."""
    with pytest.raises(SettingsError, match="REFRAIN_FIRST_TOKEN_TIMEOUT_S"):
        load({"REFRAIN_FIRST_TOKEN_TIMEOUT_S": "600", "REFRAIN_STREAM_TIMEOUT_S": "600"})


@virtual
async def test_rule_9_no_cancel_is_swallowed() -> None:
    """Row 76: a task that is cancelled in the turn in which it would have got its permit is cancelled."""
    async with pipeline(followers=1) as pipe:
        await pipe.ask("q")
        pipe.hold("followers")
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(pipe.ask("q", OPENAI))
            await settle()
            pipe.let_go()
            asking.cancel()
        assert asking.cancelled()


@virtual
async def test_rule_10_a_waiting_limiter_stops_nobody_but_those_who_need_it() -> None:
    """A pause of the slots: hits, joins and preparations go on, and a cancel is at once."""
    async with pipeline(hook=True) as pipe, asyncio.TaskGroup() as group:
        await pipe.ask_and_read("cached")
        pipe.llm_streams.pause(60)
        waiting = await pipe.ask("q")
        reading = group.create_task(pipe.read(waiting))
        await settle()
        assert (await pipe.ask_and_read("cached")).text == "1: answer to cached"
        assert (await pipe.ask("q")).role is Role.FOLLOWER
        other = await pipe.ask("other")
        await settle()
        assert pipe.status(other) == "ready"
        pipe.cancel(waiting)
        await settle()
        assert reading.done()


@virtual
async def test_rule_11_one_limit_for_all_who_call() -> None:
    """Answers of many flights together, and plans of many flights together, stay within one stage each."""
    async with pipeline(leaders=9, streams=2, calls=3, planning=True) as pipe:
        async with asyncio.TaskGroup() as group:
            for number in range(9):
                group.create_task(pipe.ask_and_read(f"q{number}"))
        assert pipe.model.peak == {"llm_streams": 2, "llm_calls": 3}


@virtual
async def test_rule_12_one_slot_is_never_held_while_waiting_for_the_other() -> None:
    """Leaders and streams of one: whoever waits for the stream holds no leader permit, and none deadlocks."""
    async with pipeline(leaders=1, streams=1, calls=1, planning=True) as pipe:
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(pipe.ask_and_read(f"q{number}"))
            for _ in range(200):
                await asyncio.sleep(0)
                phases = [broadcast.phase for broadcast in pipe.broadcasts.running]
                # A granted one may not have been told yet, so it is still shown as waiting.
                preparing = phases.count(Phase.PREPARING) + phases.count(Phase.WAITING)
                assert pipe.leaders.stats().in_use <= preparing
        assert len(pipe.model.calls) == 10


@virtual
async def test_rule_14_full_pools_are_not_ill_health() -> None:
    """A supervisor that turned red at full load would have the process restarted."""
    async with pipeline(leaders=1, queue=1, streams=1) as pipe:
        pipe.hold("leaders", "followers", "llm_streams", "llm_calls")
        await pipe.ask("waits")
        assert pipe.supervisor.healthy
        assert pipe.lane.healthy


@pytest.mark.parametrize("place", ["hook", "plan:q", "q"])
def test_rule_15_no_failure_is_dressed_up_as_an_answer(place: str) -> None:
    """Whatever fails, there is no text, no success and nothing to be cached."""

    @virtual
    async def no_apology() -> None:
        async with pipeline(hook=True, planning=True) as pipe:
            if place == "hook":
                pipe.hook.error = PrepareFailed()
            pipe.model.errors[place] = [UpstreamUnavailable() for _ in range(3)]
            got = await pipe.ask_and_read("q")
            assert (got.text, got.outcome) == ("", Outcome.FAILED)
            pipe.hook.error = None
            assert (await pipe.ask("q")).role is Role.LEADER

    no_apology()
