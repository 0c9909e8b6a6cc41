"""A record: a status that never goes back, a position that never rises, and a text that stays."""

from __future__ import annotations

import asyncio

from admission import Priority
from broadcast.subscription import Subscription
from chatbot.record import Record
from chatbot.via import OPENAI
from tests.fakes.claims import Ticket
from tests.fakes.model import USAGE
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable


async def walk(pipe: Pipeline, record: Record) -> list[tuple[str, str]]:
    """Every (status, stage) that a reader sees, woken by every change."""
    seen: list[tuple[str, str]] = []
    subscription = Subscription(record.broadcast.log)
    with pipe.manager.reading(record, subscription):
        while True:
            progress = pipe.manager.progress(record)
            if (progress.status, progress.stage) not in seen[-1:]:
                seen.append((progress.status, progress.stage))
            if record.claim.ended:
                return seen
            await subscription.wait()


@virtual
async def test_a_reader_sees_every_status_on_the_way() -> None:
    """Row 3: in order, each with the stage that it is in or waits for."""
    async with pipeline(leaders=1, streams=1, hook=True, planning=True) as pipe:
        leading = pipe.leaders.admit(Ticket("", 0))
        streaming = pipe.llm_streams.admit(Ticket("", 0))
        pipe.hook.gate.clear()
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        async with asyncio.TaskGroup() as group:
            walking = group.create_task(walk(pipe, record))
            await settle()
            leading.withdraw()
            await settle()
            pipe.hook.gate.set()
            await until(lambda: pipe.status(record) == "waiting_slot")
            streaming.withdraw()
            call = await pipe.model.call("q")
            await settle()
            call.say("1")
            call.complete()
        assert walking.result() == [
            ("queued", "leaders"),
            ("preparing", "preparing:hook"),
            ("preparing", "preparing:planning"),
            ("waiting_slot", "llm_streams"),
            ("streaming", "streaming"),
            ("completed", "ended"),
        ]


@virtual
async def test_an_unwatched_request_is_ready() -> None:
    """The status that only a poller sees."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        progress = pipe.manager.progress(record)
        assert (progress.status, progress.stage, progress.queue_position) == ("ready", "subscriber", None)


@virtual
async def test_a_retry_does_not_take_the_status_back() -> None:
    """It streamed, the call failed, it waits again: `streaming` stays, the stage tells the truth."""
    async with pipeline() as pipe:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(record))
            call = await pipe.model.call("q")
            assert pipe.status(record) == "streaming"
            call.fail(UpstreamUnavailable())
            await settle()
            progress = pipe.manager.progress(record)
            assert (progress.status, progress.stage) == ("streaming", "llm_streams")
            await asyncio.sleep(1)
            (await pipe.model.call("q", 2)).complete()


@virtual
async def test_the_shown_position_only_falls() -> None:
    """Row 62: also when somebody with a better turn comes in front."""
    async with pipeline(leaders=1, hook=True) as pipe:
        pipe.hook.gate.clear()
        await pipe.ask("holder")
        batch = await pipe.ask("batch", priority=Priority.BATCH)
        assert pipe.manager.progress(batch).queue_position == 1
        first = await pipe.ask("first")
        assert batch.broadcast.position == 2
        assert pipe.manager.progress(batch).queue_position == 1
        assert pipe.manager.progress(first).queue_position == 1
        pipe.hook.gate.set()
        await settle()
        assert pipe.manager.progress(batch).queue_position is None


@virtual
async def test_the_promised_wait_comes_from_what_was_measured() -> None:
    """`eta_ms`: unknown holding times promise nothing; known ones give the time until the turn comes."""
    async with pipeline(leaders=1, hook=True) as pipe:
        pipe.hook.gate.clear()
        await pipe.ask("a")
        await asyncio.sleep(10)
        pipe.hook.gate.set()
        await settle()
        pipe.hook.gate.clear()
        await pipe.ask("b")
        waiting = [await pipe.ask("c"), await pipe.ask("d")]
        assert [pipe.manager.progress(one).eta_ms for one in waiting] == [10_000, 20_000]
        pipe.hook.gate.set()


@virtual
async def test_timings_are_those_of_each_stage() -> None:
    """Row 81: queue, preparation, slot wait, first token, total; in milliseconds, of this request alone."""
    async with pipeline(leaders=1, streams=1, hook=True) as pipe:
        leading, streaming = pipe.leaders.admit(Ticket("", 0)), pipe.llm_streams.admit(Ticket("", 0))
        pipe.hook.gate.clear()
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q", OPENAI)
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(record))
            await asyncio.sleep(1)
            leading.withdraw()
            await asyncio.sleep(2)
            follower = await pipe.ask("q")
            pipe.hook.gate.set()
            await asyncio.sleep(4)
            streaming.withdraw()
            call = await pipe.model.call("q")
            await asyncio.sleep(8)
            call.say("1")
            await asyncio.sleep(16)
            call.complete()
        assert record.timings() == {
            "queue_ms": 1000,
            "prepare_ms": 2000,
            "slot_wait_ms": 4000,
            "ttft_ms": 15_000,
            "total_ms": 31_000,
        }
        assert follower.timings()["queue_ms"] in (None, 0)
        assert follower.timings()["total_ms"] == 28_000


@virtual
async def test_a_completed_snapshot_has_text_usage_and_finish_reason() -> None:
    """What `GET /chat/{id}` says, before and after the end."""
    async with pipeline() as pipe:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(record))
            call = await pipe.model.call("q")
            call.say("1: so")
            await settle()
            half = pipe.manager.snapshot(record)
            assert (half["status"], half["text"], half["finish_reason"]) == ("streaming", "1: so", None)
            call.say(" far")
            call.complete()
        whole = pipe.manager.snapshot(record)
        assert (whole["status"], whole["stage"], whole["text"]) == ("completed", "ended", "1: so far")
        assert (whole["finish_reason"], whole["usage"], whole["role"]) == ("stop", USAGE, "leader")


@virtual
async def test_a_cancelled_text_stays_as_it_was() -> None:
    """What its broadcast goes on to say to others is not its own any more."""
    async with pipeline() as pipe:
        pipe.model.by_hand.add("q")
        leader, follower = await pipe.ask("q"), await pipe.ask("q")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(pipe.read(follower))
            call = await pipe.model.call("q")
            call.say("1: mine")
            await settle()
            pipe.cancel(leader)
            call.say(" and yours")
            call.complete()
        assert reading.result().text == "1: mine and yours"
        for _ in range(2):
            snapshot = pipe.manager.snapshot(leader)
            assert (snapshot["status"], snapshot["text"]) == ("cancelled", "1: mine")
            await asyncio.sleep(60)


@virtual
async def test_its_repr_tells_role_and_status() -> None:
    """What a log line or a debugger shows."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        assert repr(record) == f"<Record {record.ticket.id} [leader, ready]>"
