"""The three roles: who leads, who joins, who is served from the cache; and that nobody finds neither."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from cache.errors import StoreDown, StoreRefused
from chatbot.record import CacheResult, Role
from chatbot.ticket import Ticket
from chatbot.via import OPENAI
from runtime.errors import Conflict, Draining, NotCached, QueueFull
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.pipeline import Pipeline, Reading, pipeline, question
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual


@virtual
async def test_of_identical_requests_exactly_one_leads() -> None:
    """Row 22: ten at once cost one preparation and one call, and all get its text."""
    async with pipeline(hook=True) as pipe:
        async with asyncio.TaskGroup() as group:
            readings = [group.create_task(pipe.ask_and_read("q")) for _ in range(10)]
        assert {reading.result().text for reading in readings} == {"1: answer to q"}
        assert (len(pipe.model.calls), pipe.hook.asked) == (1, ["q"])
        roles = [record.role for record in pipe.records.made]
        assert (roles.count(Role.LEADER), roles.count(Role.FOLLOWER)) == (1, 9)


async def lead_to(pipe: Pipeline, phase: Phase) -> None:
    """Take the gates of the pipeline away up to `phase`."""
    order = [Phase.WAITING, Phase.PREPARING, Phase.QUEUED, Phase.LIVE, Phase.SEALED]
    await settle()
    steps = order.index(Phase.QUEUED if phase is Phase.IDLE else phase)
    for step in order[1 : steps + 1]:
        if step is Phase.PREPARING:
            pipe.let_go("leaders")
        elif step is Phase.QUEUED:
            pipe.hook.gate.set()
        elif step is Phase.LIVE:
            pipe.let_go("llm_streams")
            (await pipe.model.call("q")).say("1: text")
        else:
            (await pipe.model.call("q")).complete()
        await settle()


@pytest.mark.parametrize("phase", ["waiting", "preparing", "idle", "queued", "live", "sealed"])
def test_a_twin_joins_in_every_phase(phase: str) -> None:
    """Whatever the flight is doing, its answer is shared: also when it is complete and not yet stored."""

    @virtual
    async def joins() -> None:
        async with pipeline(leaders=1, streams=1, hook=True) as pipe, asyncio.TaskGroup() as group:
            pipe.hold("leaders", "llm_streams")
            pipe.hook.gate.clear()
            pipe.model.by_hand.add("q")
            pipe.store.latency_s = 0.5
            leader = await pipe.ask("q")
            if phase != "idle":
                group.create_task(pipe.read(leader))
            await lead_to(pipe, Phase(phase))
            assert leader.broadcast.phase is Phase(phase)

            twin = await pipe.ask("q", OPENAI)
            assert twin.broadcast is leader.broadcast
            reading = group.create_task(pipe.read(twin))
            pipe.let_go()
            pipe.hook.gate.set()
            call = await pipe.model.call("q")
            call.say(" and more")
            call.complete()
            await until(reading.done)
            assert reading.result().text == ("1: text" if phase == "sealed" else call.said)
            assert twin.role is (Role.CACHED if phase == "sealed" else Role.FOLLOWER)
            assert len(pipe.model.calls) == 1
            assert pipe.witness.joins == ([] if phase == "sealed" else [Phase(phase)])

    joins()


@virtual
async def test_a_hit_is_served_whatever_else_waits() -> None:
    """Row 7: with every other pool held, a cached question is answered at once, and takes no permit."""
    async with pipeline(leaders=1, followers=1, streams=1) as pipe:
        first = await pipe.ask_and_read("q")
        pipe.hold("leaders", "followers", "llm_streams", "llm_calls")
        admitted = [stage.stats().admitted for stage in pipe.stages]
        record = await pipe.ask("q")
        assert (record.role, record.cache) == (Role.CACHED, CacheResult.HIT)
        assert await pipe.read(record) == Reading(first.text, record.claim.ended)
        assert [stage.stats().admitted for stage in pipe.stages] == admitted
        assert 0 < (record.hit_ttl_s or 0) <= pipe.limits.ttl_s


@virtual
async def test_a_hit_waits_for_its_reader() -> None:
    """Rule 6, row 10: the answer is there before the client attaches, and still there when it does."""
    async with pipeline() as pipe:
        await pipe.ask_and_read("q")
        record = await pipe.ask("q")
        assert pipe.status(record) == "completed"
        await asyncio.sleep(60)
        assert (await pipe.read(record)).text == "1: answer to q"
        assert (await pipe.read(record, start=2)).text == " answer to q"


class SlowToReply(MemoryAnswerStore):
    """Has read the values when it is asked, and says so only when `reply` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reply = asyncio.Event()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        values = await super().get_many(keys)
        await self.reply.wait()
        return values


@virtual
async def test_a_flight_that_lands_while_somebody_looks_is_found() -> None:
    """Their look-up read the cache before the answer was written: their second look finds the flight."""
    store = SlowToReply()
    async with pipeline(store, local_bytes=0) as pipe, asyncio.TaskGroup() as group:
        pipe.model.by_hand.add("q")
        leader = await pipe.ask("q", OPENAI, no_cache=True)
        flight, key = leader.broadcast, leader.broadcast.key or ""
        reading = group.create_task(pipe.read(leader))
        # The first look of the second finds no flight, as if it were led in another process.
        pipe.flights.leave(key, flight)
        late = group.create_task(pipe.ask_and_read("q"))
        await until(lambda: store.batches == [[key]])
        pipe.flights.claim(key, flight)
        call = await pipe.model.call("q")
        call.say("1: once")
        call.complete()
        await until(reading.done)
        await settle()
        assert pipe.flights.find(key) is flight, "stored, and still there for whoever looks"
        store.reply.set()
        await until(late.done)
        assert late.result().text == "1: once"
        assert len(pipe.model.calls) == 1
        assert len(pipe.flights) == 0


@virtual
async def test_done_does_not_wait_for_the_store() -> None:
    """A hanging Redis costs its misses, not the clients' last event: meanwhile the flight is found."""
    async with pipeline(local_bytes=0) as pipe:
        pipe.model.by_hand.add("q")
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(pipe.ask_and_read("q"))
            call = await pipe.model.call("q")
            pipe.store.gate.clear()
            call.say("1")
            call.complete()
            await until(reading.done)
        twin = await pipe.ask("q")
        assert (twin.role, (await pipe.read(twin)).text) == (Role.CACHED, "1")
        await asyncio.sleep(2)
        assert len(pipe.flights) == 0
        pipe.store.gate.set()


@pytest.mark.parametrize("trouble", [StoreDown("set: TimeoutError"), StoreRefused("set: OutOfMemoryError")])
def test_a_store_that_fails_costs_a_miss(trouble: Exception) -> None:
    """Row 14: the answer is delivered all the same, and the next identical request starts fresh."""

    @virtual
    async def costs_a_miss() -> None:
        async with pipeline(local_bytes=0) as pipe:
            assert isinstance(trouble, StoreDown | StoreRefused)
            pipe.store.trouble = trouble
            assert (await pipe.ask_and_read("q")).outcome is Outcome.COMPLETED
            await settle()
            assert len(pipe.flights) == 0
            assert (await pipe.ask_and_read("q")).text == "2: answer to q"

    costs_a_miss()


@virtual
async def test_private_requests_share_nothing() -> None:
    """`no-store`: neither read, nor joined, nor written; several samples likewise."""
    async with pipeline() as pipe:
        await pipe.ask_and_read("q")
        assert (await pipe.ask_and_read("q", no_store=True)).text == "2: answer to q"
        assert (await pipe.ask_and_read("new", no_store=True)).text == "3: answer to new"
        assert (await pipe.ask_and_read("new")).text == "4: answer to new"
        assert [record.cache for record in pipe.records.made] == ["miss", "bypass", "bypass", "miss"]


@virtual
async def test_no_cache_skips_the_look_up_and_refreshes() -> None:
    """It joins what runs, else it leads, and the answer it gets is the one that is kept."""
    async with pipeline() as pipe:
        await pipe.ask_and_read("q")
        assert (await pipe.ask_and_read("q", no_cache=True)).text == "2: answer to q"
        assert (await pipe.ask_and_read("q")).text == "2: answer to q"
        running = await pipe.ask("other")
        assert (await pipe.ask("other", no_cache=True)).broadcast is running.broadcast


@virtual
async def test_only_if_cached_takes_sealed_answers_alone() -> None:
    """It neither leads nor waits for one who does."""
    async with pipeline() as pipe:
        for prompt in ("none", "running"):
            if prompt == "running":
                await pipe.ask("running")
            with pytest.raises(NotCached):
                await pipe.ask(prompt, only_if_cached=True)
        await pipe.ask_and_read("q")
        assert (await pipe.ask("q", only_if_cached=True)).role is Role.CACHED
        assert len(pipe.records.made) == 3


@virtual
async def test_max_age_judges_sealed_answers_only() -> None:
    """A running one is always fresh; a sealed one is as old as its end, also before it is stored."""
    async with pipeline(local_bytes=0) as pipe:
        running = await pipe.ask("q")
        assert (await pipe.ask("q", max_age_s=0)).broadcast is running.broadcast
        pipe.store.latency_s = 0.5
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(running))
            await asyncio.sleep(0.2)
            assert running.broadcast.phase is Phase.SEALED
            assert (await pipe.ask("q", max_age_s=0.3)).broadcast is running.broadcast
            assert (await pipe.ask("q", max_age_s=0.1)).broadcast is not running.broadcast


@virtual
async def test_a_draining_gateway_admits_nothing_more() -> None:
    """Also one whose look-up was under way; what runs is answered."""
    async with pipeline(local_bytes=0) as pipe:
        running = await pipe.ask("q")
        pipe.store.latency_s = 0.05
        async with asyncio.TaskGroup() as group:
            looking = group.create_task(refusal(pipe.ask("late")))
            await settle()
            pipe.manager.begin_drain()
            assert await refusal(pipe.ask("later")) is Draining
        assert looking.result() is Draining
        assert (await pipe.read(running)).outcome is Outcome.COMPLETED


async def refusal(asking: Any) -> type[BaseException] | None:
    try:
        await asking
    except (Draining, QueueFull, Conflict) as error:
        return type(error)
    return None


@virtual
async def test_a_request_id_is_admitted_once() -> None:
    """Row 41: same body, same record, also after it was cancelled; another body is a conflict."""
    async with pipeline() as pipe:
        async with asyncio.TaskGroup() as group:
            asks = [group.create_task(pipe.ask("q", request_id="r")) for _ in range(5)]
        (record,) = {ask.result() for ask in asks}
        pipe.cancel(record)
        repeated, new = await pipe.manager.submit(question("q", request_id="r"), Ticket.issue("t"), OPENAI)
        assert (repeated, new) == (record, False)
        assert await refusal(pipe.ask("other", request_id="r")) is Conflict
        assert await pipe.ask("other", request_id="r", tenant="u") is not record
        assert len(pipe.records.made) == 2


@virtual
async def test_a_request_id_is_free_again_when_its_record_is_forgotten() -> None:
    """Whoever looked at the old one last: the name is not consumed for ever."""
    async with pipeline(retention_s=60) as pipe:
        old = await pipe.ask("q", request_id="r")
        await pipe.read(old)
        await asyncio.sleep(61)
        pipe.manager.forget_old()
        assert await pipe.ask("q", request_id="r") is not old


@virtual
async def test_a_refused_first_does_not_consume_its_request_id() -> None:
    """The queue was full: the same id is welcome when there is room."""
    async with pipeline(leaders=1, queue=0) as pipe:
        pipe.hold("leaders")
        assert await refusal(pipe.ask("q", request_id="r")) is QueueFull
        assert await refusal(pipe.ask("other", request_id="r")) is QueueFull
        pipe.let_go()
        assert (await pipe.ask("q", request_id="r")).role is Role.LEADER
