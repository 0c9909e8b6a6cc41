"""What is kept of ended requests: for a time (then 404), within so many bytes (oldest first, 410)."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.outcome import Outcome
from broadcast.subscription import Subscription
from chatbot import records as records_module
from chatbot.record import Record
from chatbot.records import RECORD_BYTES
from chatbot.via import OPENAI
from runtime.errors import HistoryGone, NotFound
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle
from tests.virtual_time import virtual

BIG = "x" * 4000
#: Room for two big answers and not for three.
ROOM = 28_000


async def answered(pipe: Pipeline, prompt: str) -> Record:
    record = await pipe.ask(prompt)
    await pipe.read(record)
    return record


def gone(pipe: Pipeline, record: Record) -> bool:
    try:
        pipe.manager.find(record.ticket.id, "t")
    except HistoryGone:
        return True
    return False


def kept_bytes(pipe: Pipeline) -> int:
    return int(repr(pipe.records).split()[-2])


@virtual
async def test_a_native_record_is_kept_for_its_time_and_then_unknown() -> None:
    """Readable until retention ends; after that as if it had never been."""
    async with pipeline(retention_s=600) as pipe:
        record = await answered(pipe, "q")
        await asyncio.sleep(599)
        assert pipe.manager.find(record.ticket.id, "t") is record
        await asyncio.sleep(2)
        with pytest.raises(NotFound):
            pipe.manager.find(record.ticket.id, "t")
        assert len(pipe.records) == 0
        assert kept_bytes(pipe) == 0


@virtual
async def test_an_openai_record_is_gone_when_its_request_ends() -> None:
    """Only native requests keep a record; while it runs its id works."""
    async with pipeline() as pipe:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q", OPENAI)
        assert pipe.manager.find(record.ticket.id, "t") is record
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(record))
            (await pipe.model.call("q")).complete()
        with pytest.raises(NotFound):
            pipe.manager.find(record.ticket.id, "t")


@virtual
async def test_a_foreign_record_is_as_unknown_as_none() -> None:
    """Row 84: same error, same words, for reading and for cancelling."""
    async with pipeline() as pipe:
        record = await answered(pipe, "q")
        told = []
        for id, tenant in [(record.ticket.id, "other"), ("chat_none", "t")]:
            for ask in (pipe.manager.find, pipe.manager.cancel):
                with pytest.raises(NotFound) as unknown:
                    ask(id, tenant)
                told.append(repr(unknown.value))
        assert len(set(told)) == 1


@virtual
async def test_beyond_the_bytes_the_oldest_lose_their_history() -> None:
    """410 and not 404: the id is still known, until its time is over."""
    async with pipeline(retention_bytes=ROOM) as pipe:
        records = [await answered(pipe, BIG + str(number)) for number in range(4)]
        assert kept_bytes(pipe) <= ROOM
        assert [gone(pipe, record) for record in records] == [True, True, False, False]
        assert records[0].claim.ended is not None
        assert records[0].claim.ended.outcome is Outcome.COMPLETED
        await asyncio.sleep(601)
        pipe.manager.forget_old()
        assert (len(pipe.records), kept_bytes(pipe)) == (0, 0)


@virtual
async def test_a_shared_log_counts_once() -> None:
    """A hundred readers of one answer keep one answer."""
    async with pipeline(retention_bytes=1 << 20) as pipe:
        await answered(pipe, BIG)
        once = kept_bytes(pipe)
        shared = [await answered(pipe, BIG) for _ in range(3)]
        assert {id(record.broadcast.log) for record in shared[1:]} == {id(shared[0].broadcast.log)}
        twice = once - RECORD_BYTES
        assert kept_bytes(pipe) <= once + twice + 3 * RECORD_BYTES, "live once, as a hit once"


@virtual
async def test_a_log_that_grows_after_a_record_ended_is_counted_as_it_is() -> None:
    """A leader that is cancelled ends early; what its follower's answer weighs is counted exactly."""
    async with pipeline(retention_bytes=1 << 20, retention_s=600) as pipe:
        pipe.model.by_hand.add("q")
        leader, follower = await pipe.ask("q"), await pipe.ask("q")
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(follower))
            call = await pipe.model.call("q")
            call.say("1")
            await settle()
            pipe.cancel(leader)
            before = kept_bytes(pipe)
            call.say("x" * 5000)
            call.complete()
        assert kept_bytes(pipe) == follower.broadcast.log.weight + 2 * RECORD_BYTES
        assert kept_bytes(pipe) > before + 10_000
        await asyncio.sleep(601)
        pipe.manager.forget_old()
        assert kept_bytes(pipe) == 0


@virtual
async def test_what_is_being_read_is_not_taken_away() -> None:
    """The bound takes the oldest that nobody reads just now."""
    async with pipeline(retention_bytes=ROOM) as pipe:
        first = await answered(pipe, BIG)
        subscription = Subscription(first.broadcast.log)
        with pipe.manager.reading(first, subscription):
            others = [await answered(pipe, BIG + str(number)) for number in range(3)]
            assert not gone(pipe, first)
            assert gone(pipe, others[0])
        await answered(pipe, BIG + "last")
        assert gone(pipe, first)


@virtual
async def test_a_running_record_is_never_evicted() -> None:
    """However little room there is, what runs is answered."""
    async with pipeline(retention_bytes=1) as pipe:
        pipe.model.by_hand.add("q")
        running = await pipe.ask("q")
        await answered(pipe, "other")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(pipe.read(running))
            call = await pipe.model.call("q")
            call.say("1: fine")
            call.complete()
        assert reading.result().text == "1: fine"


@virtual
async def test_its_repr_tells_what_is_kept() -> None:
    """What a debugger shows."""
    async with pipeline() as pipe:
        await answered(pipe, "q")
        assert repr(pipe.records).startswith("<Records [0 running, 1 kept, ")


@virtual
async def test_only_so_many_evicted_ids_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of an evicted request is small and bounded: the oldest are unknown again, not gone."""
    monkeypatch.setattr(records_module, "MAX_GONE", 2)
    async with pipeline(retention_bytes=1) as pipe:
        made = [await answered(pipe, str(number)) for number in range(4)]
        pipe.manager.forget_old()
        with pytest.raises(NotFound):
            pipe.manager.find(made[0].ticket.id, "t")
        assert [gone(pipe, record) for record in made[2:]] == [True, True]
        assert len(pipe.records) == 0
