"""The manager's part in sharing: mirrors, what is taken over or let go, and what the cache has already."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from broadcast.answering import Answering
from broadcast.bounds import Bounds
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim
from broadcast.elsewhere import Nowhere
from broadcast.lifecycle import Phase
from broadcast.log import Log
from broadcast.manager import BroadcastManager
from broadcast.outcome import Outcome
from broadcast.sealing import Sealing
from broadcast.shown import Shown
from chatbot.via import OPENAI
from processing.preparer import Preparer
from runtime.errors import Draining, GatewayError, QueueFull
from tests.fakes.claims import TIMERS, Ticket
from tests.fakes.model import delta, finish
from tests.fakes.pipeline import pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual
from upstream.chunk import Chunk
from upstream.client import ModelClient

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "left"}]}


def attached(broadcast: Broadcast[Chunk]) -> Claim:
    claim = Claim(Ticket("c", 0.0), broadcast, TIMERS, attached=True, on_end=lambda claim: None)
    broadcast.join(claim)
    return claim


@virtual
async def test_a_mirror_is_found_by_its_key_and_asks_for_nothing() -> None:
    """It has its maker's epoch and its own request's turn; no stage and no model hears of it."""
    async with pipeline(log_bytes=10) as pipe:
        mirror = pipe.broadcasts.follow("k", 7, BODY, 3.0)
        assert pipe.flights.find("k") is mirror
        assert (mirror.key, mirror.log.epoch, mirror.order, mirror.remote) == ("k", 7, 3.0, True)
        assert pipe.broadcasts.running[mirror].body == BODY
        assert all(stage.stats().admitted == 0 for stage in pipe.stages)
        mirror.append([delta("more than ten bytes")])
        assert not mirror.joinable
        bodiless = pipe.broadcasts.follow("other", 8, None, 0.0)
        assert pipe.broadcasts.running[bodiless].body == {}

        mirror.conclude(Outcome.COMPLETED, None)
        bodiless.conclude(Outcome.CANCELLED, None)
        assert (pipe.flights.find("k"), pipe.flights.find("other")) == (None, None)
        assert pipe.broadcasts.running == {}


@virtual
async def test_what_is_taken_over_is_made_from_the_start() -> None:
    """Its readers stay, under the new epoch, and it takes its turn like any other."""
    async with pipeline(leaders=1) as pipe:
        mirror = pipe.broadcasts.follow("k", 7, None, 3.0)
        claim = attached(mirror)
        mirror.append([delta("void")])
        pipe.hold("leaders")
        pipe.broadcasts.take_over(mirror, 8, BODY)
        assert (mirror.remote, mirror.log.epoch, len(mirror.log)) == (False, 8, 0)
        assert (mirror.phase, mirror.position) == (Phase.WAITING, 1)
        pipe.let_go("leaders")
        await until(lambda: claim.ended is not None)
        assert claim.ended is not None
        assert claim.ended.outcome is Outcome.COMPLETED
        assert [call.body["messages"] for call in pipe.model.calls] == [BODY["messages"]]


@virtual
async def test_what_cannot_be_taken_over_fails_for_its_readers() -> None:
    """The queue is full: they are told so, now."""
    async with pipeline(leaders=1, queue=0) as pipe:
        mirror = pipe.broadcasts.follow("k", 7, None, 3.0)
        claim = attached(mirror)
        pipe.hold("leaders")
        pipe.broadcasts.take_over(mirror, 8, BODY)
        assert claim.ended is not None
        assert (claim.ended.outcome, type(claim.ended.error)) == (Outcome.FAILED, QueueFull)
        assert pipe.broadcasts.running == {}


@pytest.mark.parametrize("stage", ["leaders", "llm_streams"])
def test_what_is_let_go_leaves_its_queue(stage: str) -> None:
    """Another process makes it: no place is kept and no task waits, and its readers wait for that one."""

    @virtual
    async def leaves() -> None:
        async with pipeline(leaders=1, streams=1) as pipe:
            pipe.hold(stage)
            record = await pipe.ask("q", OPENAI)
            broadcast = record.broadcast
            await settle()
            waiting = next(one for one in pipe.stages if one.name == stage)
            assert waiting.stats().waiting == 1
            work = broadcast.work
            assert work is not None
            pipe.broadcasts.let_go(broadcast, 9)
            assert waiting.stats().waiting == 0
            assert (broadcast.remote, broadcast.log.epoch, broadcast.work) == (True, 9, None)
            assert pipe.broadcasts.outlook.pending == 0
            await settle()
            assert work.done()
            assert record.claim.ended is None
            broadcast.conclude(Outcome.CANCELLED, None)
            pipe.let_go()

    leaves()


@virtual
async def test_a_stream_that_is_let_go_is_closed() -> None:
    """Its slot is free as soon as the model is rid of us, and not before."""
    async with pipeline(streams=1) as pipe:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q", OPENAI)
        call = await pipe.model.call("q")
        pipe.broadcasts.let_go(record.broadcast, 9)
        assert pipe.llm_streams.stats().in_use == 1
        await until(lambda: not call.open)
        await settle()
        assert pipe.llm_streams.stats().in_use == 0
        record.broadcast.conclude(Outcome.CANCELLED, None)


@virtual
async def test_what_the_cache_has_meanwhile_is_served_from_there() -> None:
    """Row 56: whole, to all who wait for it, with the time it took where it was made, and no call."""
    async with pipeline(streams=1) as pipe:
        pipe.hold("llm_streams")
        broadcast = pipe.broadcasts.open("k", BODY, 1.0)
        claim = attached(broadcast)
        pipe.broadcasts.begin(broadcast)
        assert broadcast.phase is Phase.QUEUED
        log: Log[Chunk] = Log(5)
        log.extend([delta("from the cache"), *finish()])
        log.made_s = 3.0
        pipe.broadcasts.promote(broadcast, log)
        assert claim.ended is not None
        assert claim.ended.outcome is Outcome.COMPLETED
        assert (broadcast.log.epoch, broadcast.log.made_s) == (5, 3.0)
        assert broadcast.log.events == log.events
        assert pipe.llm_streams.stats().waiting == 0
        assert pipe.model.calls == []


@virtual
async def test_an_epoch_that_redis_has_given_is_taken() -> None:
    """Else a reader could not tell two makers' texts apart."""
    async with pipeline() as pipe:
        for key, epoch in (("k", 77), ("other", None)):
            broadcast = pipe.broadcasts.open(key, BODY, 1.0, epoch=epoch)
            assert broadcast.order == 1.0
            claim = attached(broadcast)
            pipe.broadcasts.begin(broadcast)
            assert (broadcast.log.epoch == 77) is (epoch == 77)
            assert broadcast.log.epoch
            claim.cancel("")


@virtual
async def test_an_end_of_all_that_is_made_here_leaves_the_mirrors() -> None:
    """A worker that hands over ends its own answers; what others make goes on until it ends itself."""
    async with pipeline() as pipe:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q", OPENAI)
        mirror = pipe.broadcasts.follow("k", 7, BODY, 3.0)
        claim = attached(mirror)
        pipe.broadcasts.end_all(Draining(), led=True)
        assert (record.broadcast.phase, mirror.running) == (Phase.FAILED, True)
        pipe.broadcasts.end_all(Draining())
        assert mirror.phase is Phase.FAILED
        assert claim.ended is not None
        assert isinstance(claim.ended.error, Draining)


@virtual
async def test_a_wait_is_foretold_by_the_stage_it_is_for() -> None:
    """A mirror's by its maker; none where there is no queue or nothing has been measured."""
    async with pipeline(leaders=1, streams=1) as pipe:
        mirror = pipe.broadcasts.follow("k", 7, BODY, 3.0)
        mirror.shown = Shown(position=2, eta_s=8.5)
        assert pipe.broadcasts.outlook.eta_s(mirror) == 8.5
        mirror.shown = Shown(position=0, eta_s=8.5)
        assert pipe.broadcasts.outlook.eta_s(mirror) is None
        mirror.conclude(Outcome.CANCELLED, None)

        pipe.hold("llm_streams")
        waiting = await pipe.ask("q", OPENAI)
        assert pipe.broadcasts.outlook.eta_s(waiting.broadcast) is None
        await asyncio.sleep(10)
        pipe.let_go()
        await until(lambda: waiting.claim.ended is not None)
        pipe.hold("llm_streams")
        following = await pipe.ask("r", OPENAI)
        mean = pipe.llm_streams.stats().mean_hold_s
        assert mean is not None
        assert pipe.broadcasts.outlook.eta_s(following.broadcast) == pytest.approx(mean)
        pipe.let_go()
        await until(lambda: following.claim.ended is not None)


class Heard(Nowhere):
    """What other processes are told: each word once per turn of the phases."""

    def __init__(self, sealing: Sealing) -> None:
        super().__init__(sealing)
        self.words: list[str] = []

    def changed(self, broadcast: Broadcast[Chunk]) -> None:
        self.words.append(f"{broadcast.phase} {len(broadcast.log)}")

    def attended(self, mirror: Broadcast[Chunk]) -> None:
        self.words.append("attended")

    def ended(self, broadcast: Broadcast[Chunk], outcome: Outcome, error: GatewayError | None) -> None:
        self.words.append(f"{outcome} {error and error.code}")

    def abdicate_all(self) -> None:
        self.words.append("abdicated")


@virtual
async def test_what_other_processes_follow_is_told_to_them() -> None:
    """Each phase and each growth of what is made here; of a mirror who attends, and that it has ended."""
    async with pipeline() as pipe:
        sealing = Sealing(pipe.lane, 60)
        heard = Heard(sealing)
        answering = Answering(cast(ModelClient, pipe.model), pipe.llm_streams, pipe.retry, slot_s=9)
        bounds = Bounds(max_pending=9, max_log_bytes=9999, queue_s=9, slot_s=9, prepare_s=9)
        manager = BroadcastManager(
            pipe.flights, pipe.leaders, pipe.llm_streams, Preparer(), answering, sealing, pipe.supervisor,
            bounds, finish_unwatched=False, elsewhere=heard,
        )  # fmt: skip
        led = manager.open("k", BODY, 1.0)
        claim = attached(led)
        manager.begin(led)
        await until(lambda: claim.ended is not None)
        phases = [word.split()[0] for word in heard.words]
        assert list(dict.fromkeys(phases)) == ["preparing", "idle", "queued", "live"]
        assert heard.words[-1] == f"live {len(led.log)}", heard.words

        heard.words.clear()
        mirror = manager.follow("m", 7, BODY, 3.0)
        attached(mirror)
        mirror.append([delta("of another process")])
        mirror.show(Phase.LIVE)
        manager.end_all(Draining(), led=True)
        mirror.conclude(Outcome.FAILED, Draining())
        assert heard.words == ["attended", "abdicated", f"failed {Draining.code}"]
        await settle()
