"""The table "Cancellation, disconnect, failure" of the design, row by row: what everybody sees."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from broadcast.subscription import Subscription
from chatbot.record import Role
from chatbot.via import OPENAI
from runtime.errors import (
    Conflict,
    Draining,
    PrepareFailed,
    PrepareTimeout,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamTruncated,
)
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual


@virtual
async def test_cancel_of_a_request_without_company() -> None:
    """Rows 4, 33, 39: its stream ends with `cancelled`, the upstream is rid of us, it stays so for ever."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        reading = group.create_task(pipe.read(record))
        call = await pipe.model.call("q")
        call.say("1")
        await settle()
        pipe.cancel(record)
        await settle()
        assert not call.open
        assert reading.result().outcome is Outcome.CANCELLED
        for _ in range(3):
            pipe.cancel(record)
            assert pipe.status(record) == "cancelled"
            await asyncio.sleep(100)


@virtual
async def test_cancel_of_a_leader_with_followers() -> None:
    """Row 34: its own stream gets `cancelled`, the flight goes on for the others."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        leader, follower = await pipe.ask("q"), await pipe.ask("q", OPENAI)
        readings = [group.create_task(pipe.read(record)) for record in (leader, follower)]
        call = await pipe.model.call("q")
        pipe.cancel(leader)
        await settle()
        assert readings[0].result().outcome is Outcome.CANCELLED
        assert call.open
        call.say("1: all of it")
        call.complete()
        await until(readings[1].done)
        assert readings[1].result().text == "1: all of it"


@virtual
async def test_cancel_of_a_follower_and_then_the_last_one() -> None:
    """Rows 35 and 37: only that one, then with the last the flight ends for real."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        records = [await pipe.ask("q") for _ in range(3)]
        readings = [group.create_task(pipe.read(record)) for record in records]
        call = await pipe.model.call("q")
        for number in (1, 0, 2):
            assert call.open
            pipe.cancel(records[number])
            await settle()
            assert readings[number].done()
        assert not call.open
        assert records[0].broadcast.phase is Phase.CANCELLED


@virtual
async def test_cancel_then_stream() -> None:
    """Row 31: a stream that is opened afterwards ends at once; what ended otherwise stays as it was."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        pipe.cancel(record)
        got = await pipe.read(record)
        assert (got.text, got.outcome) == ("", Outcome.CANCELLED)
        completed = await pipe.ask("q")
        await pipe.read(completed)
        with pytest.raises(Conflict):
            pipe.cancel(completed)
        assert pipe.status(completed) == "completed"
        assert (completed.role, len(pipe.model.calls)) == (Role.LEADER, 1), "row 40: accepted and answered"


@virtual
async def test_a_disconnect_is_a_detach() -> None:
    """Row 42: a native reader that comes back within the grace goes on; one that does not ends the flight."""
    async with pipeline(grace_s=5) as pipe:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        await hang_up_while_it_streams(pipe, record_text="1: one")
        await asyncio.sleep(4.9)
        assert pipe.status(record) == "streaming"
        await hang_up_while_it_streams(pipe, record_text=" two")
        await asyncio.sleep(5.1)
        assert pipe.status(record) == "cancelled"
        assert not pipe.model.calls[0].open


async def hang_up_while_it_streams(pipe: Pipeline, record_text: str) -> None:
    record = pipe.records.made[0]
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(pipe.read(record))
        (await pipe.model.call("q")).say(record_text)
        await settle()
        reading.cancel()


@pytest.mark.parametrize("where", ["leaders", "hook", "llm_streams", "call"])
def test_a_disconnect_is_noticed_in_every_state(where: str) -> None:
    """An OpenAI caller that goes takes its work along at once, whatever it waits for."""

    @virtual
    async def noticed() -> None:
        async with pipeline(hook=True) as pipe, asyncio.TaskGroup() as group:
            pipe.hold(where)
            if where == "hook":
                pipe.hook.gate.clear()
            pipe.model.by_hand.add("q")
            asking = group.create_task(pipe.ask_and_read("q"))
            await settle()
            asking.cancel()
            await settle()
            assert pipe.broadcasts.running == {}
            assert len(pipe.supervisor) == pipe.loops
            assert pipe.hook.inside == 0
            assert pipe.model.in_flight["llm_streams"] == 0

    noticed()


@pytest.mark.parametrize("error", [UpstreamTruncated(), UpstreamError()])
def test_the_upstream_fails_later(error: UpstreamError) -> None:
    """Rows 13, 47, 48: the text so far, one failure to all, nothing cached, and the next one starts fresh."""

    @virtual
    async def fails() -> None:
        async with pipeline() as pipe, asyncio.TaskGroup() as group:
            pipe.model.by_hand.add("q")
            readings = [group.create_task(pipe.ask_and_read("q")) for _ in range(3)]
            call = await pipe.model.call("q")
            call.say("1: so far")
            call.fail(error)
            for reading in readings:
                await until(reading.done)
                assert reading.result().text == "1: so far"
                end = reading.result().ended
                assert end is not None
                assert (end.outcome, end.error) == (Outcome.FAILED, error)
            pipe.model.by_hand.clear()
            assert (await pipe.ask_and_read("q")).text == "2: answer to q"

    fails()


@pytest.mark.parametrize(
    ("breaks", "code"),
    [
        (PrepareFailed, "prepare_failed"),
        (ConnectionError, "internal_error"),
        (ValueError, "internal_error"),
    ],
)
def test_a_preparation_that_fails_fails_for_all(breaks: Callable[[], Exception], code: str) -> None:
    """A 4xx or 5xx of the hook, or a bug of ours: no slot is asked for, nobody waits for ever."""

    @virtual
    async def fails() -> None:
        async with pipeline(hook=True) as pipe, asyncio.TaskGroup() as group:
            pipe.hook.error = breaks()
            readings = [group.create_task(pipe.ask_and_read("q")) for _ in range(2)]
            await settle()
            errors = [reading.result().ended for reading in readings]
            assert [end and end.error and end.error.code for end in errors] == [code, code]
            assert pipe.llm_streams.stats().admitted == 0

    fails()


@virtual
async def test_a_preparation_that_hangs_is_timed_from_its_own_start() -> None:
    """Rows 52, 53: a minute in the queue does not count; then it ends by its own timer, permits back."""
    async with pipeline(leaders=1, hook=True, queue_s=61, prepare_s=53) as pipe, asyncio.TaskGroup() as group:
        pipe.hold("leaders")
        pipe.hook.gate.clear()
        record = await pipe.ask("q", OPENAI)
        reading = group.create_task(pipe.read(record))
        await asyncio.sleep(60)
        pipe.let_go()
        await asyncio.sleep(52)
        assert not reading.done()
        await asyncio.sleep(2)
        end = reading.result().ended
        assert end is not None
        assert isinstance(end.error, PrepareTimeout)
        assert end.outcome is Outcome.FAILED
        assert pipe.hook.inside == 0


@pytest.mark.parametrize("place", ["plan:q", "q"])
@pytest.mark.parametrize("error", [ConnectionError, TimeoutError])
def test_a_call_that_breaks_unforeseen_fails_for_all(place: str, error: Callable[[], Exception]) -> None:
    """Whatever the client library throws, at the planning call or at the answer's."""

    @virtual
    async def breaks() -> None:
        async with pipeline(planning=True) as pipe, asyncio.TaskGroup() as group:
            pipe.model.errors[place] = [error()]
            readings = [group.create_task(pipe.ask_and_read("q")) for _ in range(2)]
            await settle()
            for reading in readings:
                end = reading.result().ended
                assert end is not None
                assert end.outcome is Outcome.FAILED
            assert (await pipe.ask_and_read("q")).outcome is Outcome.COMPLETED

    breaks()


@virtual
async def test_the_end_of_the_process_is_a_terminal_event_for_all() -> None:
    """SIGTERM, after the drain: whatever still runs, in every phase, is told why."""
    async with pipeline(leaders=1, streams=1, hook=True) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("live")
        live = await pipe.ask("live", OPENAI)
        readings = [group.create_task(pipe.read(live))]
        await pipe.model.call("live")
        readings.append(group.create_task(pipe.ask_and_read("queued for a slot")))
        await settle()
        idle = await pipe.ask("idle")
        await settle()
        pipe.hook.gate.clear()
        readings += [group.create_task(pipe.ask_and_read(prompt)) for prompt in ("preparing", "waiting")]
        await settle()
        assert sorted(pipe.status(record) for record in pipe.records.made) == [
            "preparing", "queued", "ready", "streaming", "waiting_slot",
        ]  # fmt: skip
        pipe.manager.begin_drain()
        pipe.broadcasts.end_all(Draining())
        for reading in readings:
            await until(reading.done)
        ends = [record.claim.ended for record in (live, idle)] + [one.result().ended for one in readings]
        assert {type(end and end.error) for end in ends} == {Draining}


@virtual
async def test_an_answer_without_content_is_told_and_not_kept() -> None:
    """Row 13: complete, empty, and not worth repeating."""
    async with pipeline() as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        reading = group.create_task(pipe.ask_and_read("q"))
        call = await pipe.model.call("q")
        call.open_with_role()
        call.complete()
        await until(reading.done)
        assert reading.result().outcome is Outcome.COMPLETED
        pipe.model.by_hand.clear()
        assert (await pipe.ask_and_read("q")).text == "2: answer to q"


@virtual
async def test_a_reader_that_comes_back_does_not_cut_a_back_off_short() -> None:
    """Row 64: the back-off is the broadcast's; a reload of the page is no reason to ask the model at once."""
    async with pipeline() as pipe:
        pipe.model.errors["q"] = [UpstreamRateLimited(retry_after=9.0)]
        record = await pipe.ask("q")
        for _ in range(5):
            with pipe.manager.reading(record, Subscription(record.broadcast.log)):
                await asyncio.sleep(1)
            await asyncio.sleep(0.5)
            assert len(pipe.model.calls) == 1
        reading = await pipe.read(record)
        assert reading.ended is not None
        assert reading.ended.outcome is Outcome.COMPLETED
        assert len(pipe.model.calls) == 2
