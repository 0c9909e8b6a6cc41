"""The whole pipeline below the wire, of real parts: only the model, the hook and the store are played.

    async with pipeline(leaders=1, streams=1) as pipe:
        record = await pipe.ask("a question")
        assert (await pipe.read(record)).ended.outcome is Outcome.COMPLETED

Leaving the block lets the timers run out and then checks the invariants of `tests.fakes.invariants`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from admission import Admission, Priority, Stage
from broadcast.answering import Answering
from broadcast.bounds import Bounds
from broadcast.broadcast import Broadcast
from broadcast.claim import ClaimTimers
from broadcast.lifecycle import Phase
from broadcast.manager import BroadcastManager
from broadcast.outcome import End, Outcome
from broadcast.sealing import Sealing
from broadcast.subscription import Subscription
from cache.fastlane import FastLane
from cache.keys import SharingKeys
from chatbot.manager import ChatManager
from chatbot.record import Record
from chatbot.records import Records
from chatbot.request import CacheDirectives, ChatRequest
from chatbot.ticket import Ticket
from chatbot.via import NATIVE, OPENAI, Via
from processing.caller import Caller
from processing.calls import ModelCalls
from processing.flights import Flights
from processing.hook import HookStep
from processing.planning import PlanningStep
from processing.preparer import Preparer, Step
from runtime.supervisor import Supervisor
from tests.fakes.answer_store import MemoryAnswerStore
from tests.fakes.hook import FakeHook
from tests.fakes.invariants import assert_at_rest
from tests.fakes.model import FakeModel
from tests.fakes.turns import settle
from upstream.chunk import Chunk
from upstream.client import ModelClient
from upstream.hook import PreparationHook
from upstream.retry import RetryPolicy

#: Longer than every timer together.
LONG_S = 400.0


@dataclass(frozen=True)
class Limits:
    """Small ones, and timers that are all different, so that no test passes by the wrong one."""

    leaders: int = 2
    followers: int = 2
    streams: int = 2
    calls: int = 2
    queue: int = 50
    pending: int = 50
    queue_s: float = 61.0
    prepare_s: float = 53.0
    slot_s: float = 127.0
    subscribe_s: float = 71.0
    grace_s: float = 5.0
    retention_s: float = 600.0
    retention_bytes: int = 1 << 20
    log_bytes: int = 1 << 20
    ttl_s: float = 86400.0
    local_bytes: int = 1 << 20
    jitter: float = 1.0  #: of the full back-off; 0 makes retries take no time
    finish: bool = False
    hook: bool = False
    planning: bool = False


class Witness:
    """The observer of the pipeline: how often each request ended, and how each follower joined."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.joins: list[Phase] = []

    def joined(self, phase: Phase) -> None:
        self.joins.append(phase)

    def ended(self, record: Record) -> None:
        assert record.claim.ended is not None
        self.ends[record.ticket.id] += 1


class WitnessedRecords(Records):
    """The real ones, which also remember every record that was ever made."""

    def __init__(self, retention_s: float, retention_bytes: int) -> None:
        super().__init__(retention_s, retention_bytes)
        self.made: list[Record] = []

    def add(self, record: Record) -> None:
        self.made.append(record)
        super().add(record)


@dataclass
class Reading:
    """What one reader got. `ended` is None if it left before the end."""

    text: str = ""
    ended: End | None = None

    @property
    def outcome(self) -> Outcome | None:
        return None if self.ended is None else self.ended.outcome


@dataclass(frozen=True)
class Ahead:
    """Whoever holds a permit in somebody's way."""

    order: float = float("-inf")


def text_form(chunk: Chunk, epoch: int, seq: int) -> bytes:
    return chunk.text.encode()


@dataclass
class Pipeline:
    """The parts, and the two things a client does: ask and read."""

    limits: Limits
    supervisor: Supervisor
    store: MemoryAnswerStore
    model: FakeModel = field(default_factory=FakeModel)
    hook: FakeHook = field(default_factory=FakeHook)
    witness: Witness = field(default_factory=Witness)
    flights: Flights[Broadcast[Chunk]] = field(default_factory=Flights)
    prompts: dict[str, str] = field(default_factory=dict)  #: by the request's id
    spoken: list[str] = field(default_factory=list)  #: what may be said by others than the model

    def __post_init__(self) -> None:
        limits = self.limits
        self.leaders = Stage("leaders", limits.leaders, limits.queue)
        self.followers = Stage("followers", limits.followers, limits.queue)
        self.llm_streams = Stage("llm_streams", limits.streams)
        self.llm_calls = Stage("llm_calls", limits.calls)
        self.stages = (self.leaders, self.followers, self.llm_streams, self.llm_calls)
        self.lane = FastLane(self.store, local_bytes=limits.local_bytes, enabled=limits.ttl_s > 0)
        self.retry = RetryPolicy(
            asyncio.get_running_loop().time, uniform=lambda low, high: high * limits.jitter
        )
        self.records = WitnessedRecords(limits.retention_s, limits.retention_bytes)
        self.broadcasts = self._broadcasts()
        self.timers = ClaimTimers(limits.queue_s, limits.slot_s, limits.subscribe_s, limits.grace_s)
        self.keys = SharingKeys(share_globally=False, normalize_loosely=False, fingerprint=("test",))
        self.manager = ChatManager(
            self.keys,
            self.lane,
            self.flights,
            self.followers,
            self.broadcasts,
            self.records,
            self.timers,
            self.witness,
        )
        self.lane.start(self.supervisor)
        self.loops = len(self.supervisor)
        self.held: dict[str, list[Admission]] = {}

    def _broadcasts(self) -> BroadcastManager:
        limits = self.limits
        # Duck-typed: the fake offers the one method that the pipeline calls.
        client = cast(ModelClient, self.model)
        steps: list[Step] = []
        if limits.hook:
            steps.append(HookStep(cast(PreparationHook, self.hook)))
        if limits.planning:
            steps.append(self.planning(client))
        return BroadcastManager(
            self.flights,
            self.leaders,
            self.llm_streams,
            Preparer(steps),
            Answering(client, self.llm_streams, self.retry, slot_s=limits.slot_s),
            Sealing(self.lane, limits.ttl_s),
            self.supervisor,
            Bounds(limits.pending, limits.log_bytes, limits.queue_s, limits.slot_s, limits.prepare_s),
            finish_unwatched=limits.finish,
        )

    def planning(self, client: ModelClient) -> PlanningStep:
        patience, spawn = self.limits.prepare_s, self.supervisor.spawn
        calls = ModelCalls(client, self.llm_calls, self.retry, spawn, patience_s=patience)
        return PlanningStep("planner", calls, lambda prompt: Caller("scope", prompt.tenant))

    # -- what is in the way -------------------------------------------------------------------
    def hold(self, *names: str) -> None:
        """Take all permits of these stages."""
        for stage in self.stages:
            if stage.name in names:
                self.held[stage.name] = [stage.admit(Ahead()) for _ in range(stage.capacity)]

    def let_go(self, *names: str) -> None:
        """Give them back; of all stages if none is named."""
        for name in names or list(self.held):
            for admission in self.held.pop(name, []):
                admission.withdraw()

    # -- what a client does -------------------------------------------------------------------
    async def ask(
        self,
        prompt: str,
        via: Via = NATIVE,
        *,
        tenant: str = "t",
        priority: Priority = Priority.INTERACTIVE,
        request_id: str | None = None,
        **directives: Any,
    ) -> Record:
        """Submit; `directives` are the cache's."""
        request = question(prompt, priority, request_id, CacheDirectives(**directives))
        ticket = Ticket.issue(tenant, priority)
        self.prompts[ticket.id] = prompt
        record, _ = await self.manager.submit(request, ticket, via)
        return record

    async def read(self, record: Record, *, start: int = 0) -> Reading:
        """Read a stream from event `start` to its end, the way the wire does."""
        got = Reading()
        subscription: Subscription[Chunk] = Subscription(record.broadcast.log, start)
        around = self.manager.reading if record.native else self.manager.serving
        with around(record, subscription):
            while True:
                got.ended = record.claim.ended
                if not record.alone:
                    got.text += subscription.take(text_form).decode()
                if got.ended is not None:
                    return got
                await subscription.wait()

    async def ask_and_read(self, prompt: str, via: Via = OPENAI, **options: Any) -> Reading:
        return await self.read(await self.ask(prompt, via, **options))

    async def rest(self) -> None:
        """Free what the test held, let every timer run out, and then the invariants must hold."""
        self.let_go()
        deadline = asyncio.get_running_loop().time() + LONG_S
        while len(self.supervisor) > self.loops or self.broadcasts.running:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(1)
        await settle()
        assert_at_rest(self)

    def record_of(self, prompt: str) -> Record | None:
        """The first one that was made for it."""
        return next((r for r in self.records.made if self.prompts[r.ticket.id] == prompt), None)

    def status(self, record: Record) -> str:
        return self.manager.progress(record).status

    def cancel(self, record: Record) -> None:
        self.manager.cancel(record.ticket.id, record.ticket.tenant)


def question(
    prompt: str,
    priority: Priority = Priority.INTERACTIVE,
    request_id: str | None = None,
    cache: CacheDirectives | None = None,
) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    return ChatRequest(body, priority, cache or CacheDirectives(), request_id)


@asynccontextmanager
async def pipeline(store: MemoryAnswerStore | None = None, **limits: Any) -> AsyncIterator[Pipeline]:
    """A running pipeline, at rest when it is left."""
    supervisor = Supervisor()
    pipe = Pipeline(Limits(**limits), supervisor, store or MemoryAnswerStore())
    try:
        yield pipe
        await pipe.rest()
        assert supervisor.healthy
    finally:
        await supervisor.close()
