"""Requests made known to all: what Redis did not take is offered again, none of it fails a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broadcast.errands import Errands
from cache.errors import StoreDown
from cache.names import log_key
from chatbot import told
from chatbot.known import KnownRequests
from chatbot.record import Record
from runtime.supervisor import Supervisor
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle
from tests.virtual_time import virtual

RETENTION_MS = 10_000


class Redis:
    """What Redis knows, and the relay around it. `away`: nobody answers."""

    def __init__(self) -> None:
        self.away = False
        self.up = True
        self.durable = False
        self.about: dict[str, tuple[str, int]] = {}
        self.ends: dict[str, bytes] = {}
        self.texts: dict[str, tuple[bytes, int]] = {}
        self.ups: list[Callable[[], None]] = []
        self.oblivions: list[Callable[[], None]] = []
        self.handlers: dict[str, Callable[[str], None]] = {}
        self.supervisor = Supervisor()
        self.link = self.flights = self
        self.errands = Errands(self, self.supervisor, set(), set())  # type: ignore[arg-type]

    def listen(self, kind: str, handler: Callable[[str], None]) -> None:
        self.handlers[kind] = handler

    def on_up(self, act: Callable[[], None]) -> None:
        self.ups.append(act)

    def on_oblivion(self, act: Callable[[], None]) -> None:
        self.oblivions.append(act)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StoreDown("away")

    async def remember(self, id: str, about: bytes, role: str, epoch: int, ttl_ms: int) -> None:
        await self._answer()
        self.about[id] = (role, ttl_ms)

    async def ended(
        self, id: str, end: bytes, ttl_ms: int, epoch: int | None = None, *, how: str = ""
    ) -> bytes | None:
        await self._answer()
        return self.ends.setdefault(id, end) if id in self.about else None

    async def forget(self, id: str) -> None:
        await self._answer()
        self.about.pop(id, None)

    async def do(self, command: str, name: str, data: bytes, px: str, ttl_ms: int) -> None:
        assert (command, px) == ("SET", "PX")
        await self._answer()
        self.texts[name] = (data, ttl_ms)

    def known(self, pipe: Pipeline) -> KnownRequests:
        relay: Any = self
        return KnownRequests(
            relay,
            relay,
            relay,
            pipe.records,
            self.supervisor,
            running_s=50.0,
            retention_s=RETENTION_MS / 1000,
        )


async def ended_record(pipe: Pipeline) -> Record:
    record = await pipe.ask("q")
    await pipe.read(record)
    return record


@virtual
async def test_an_admitted_request_is_known_and_then_its_end() -> None:
    """For as long as it may run and be asked for after."""
    redis = Redis()
    async with pipeline() as pipe:
        known = redis.known(pipe)
        record = await pipe.ask("q")
        await known.admitted(record, 1.0)
        assert record.known
        assert redis.about == {record.ticket.id: (record.role.value, 60_000)}
        await pipe.read(record)
        known.ended(record)
        await settle()
        assert told.read_ended(redis.ends[record.ticket.id]).outcome == "completed"
        assert redis.texts == {}


@virtual
async def test_without_redis_a_request_goes_on_and_is_made_known_later() -> None:
    """Neither waited for nor failed; when the link is back it is told."""
    redis = Redis()
    async with pipeline() as pipe:
        known = redis.known(pipe)
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q")
        redis.away = True
        await known.admitted(record, 1.0)
        assert not record.known
        redis.away = False
        redis.ups[0]()
        await settle()
        assert record.known
        pipe.cancel(record)


@virtual
async def test_an_end_that_was_not_heard_is_told_again_once() -> None:
    """It is kept until Redis has taken it, and no longer."""
    redis = Redis()
    async with pipeline() as pipe:
        known = redis.known(pipe)
        record = await ended_record(pipe)
        await known.admitted(record, 1.0)
        redis.away = True
        known.ended(record)
        await settle()
        redis.ups[0]()
        await settle()
        assert "1 untold" in repr(known)
        redis.away = False
        redis.ups[0]()
        await settle()
        assert record.ticket.id in redis.ends
        assert "0 untold" in repr(known)


@virtual
@pytest.mark.parametrize("elsewhere", ["cancelled", "completed"])
async def test_a_record_says_whether_others_know_of_another_end(elsewhere: str) -> None:
    """Its conversation keeps nothing of an answer that was cancelled for everybody; the first end counts."""
    redis = Redis()
    async with pipeline() as pipe:
        known = redis.known(pipe)
        record, other = await ended_record(pipe), await pipe.ask("other")
        if elsewhere == "cancelled":
            pipe.cancel(other)
        else:
            await pipe.read(other)
        await known.admitted(record, 1.0)
        redis.ends[record.ticket.id] = told.ended(other)
        known.ended(record)
        assert not record.overruled
        await known.told(record.ticket.id, 1.0)
        assert record.overruled is (elsewhere == "cancelled")


@virtual
async def test_the_end_of_what_was_never_known_is_not_told() -> None:
    """Redis has nothing to end."""
    redis = Redis()
    async with pipeline() as pipe:
        known = redis.known(pipe)
        known.ended(await ended_record(pipe))
        await settle()
        assert "0 untold" in repr(known)


@pytest.mark.parametrize("durable", [False, True])
def test_a_text_is_written_when_asked_for_or_always(durable: bool) -> None:
    """Lazy: only for a guest that has ended elsewhere; durable: with every end, as long as it is known."""

    @virtual
    async def written() -> None:
        redis = Redis()
        redis.durable = durable
        async with pipeline() as pipe:
            known = redis.known(pipe)
            record = await ended_record(pipe)
            await known.admitted(record, 1.0)
            known.ended(record)
            await settle()
            name = log_key(record.broadcast.key or "", record.broadcast.log.epoch)
            assert bool(redis.texts) is durable
            if durable:
                assert redis.texts[name][1] == RETENTION_MS
            redis.handlers["P"](record.ticket.id)
            redis.handlers["P"]("unknown")
            await settle()
            assert redis.texts[name][0].split(b"\n") == [chunk.raw for chunk in record.chunks()]

    written()


@virtual
async def test_what_redis_has_forgotten_of_the_ended_is_told_again_with_its_end() -> None:
    """Row 88: after a loss of memory an ended request must not come back as one that runs."""
    redis = Redis()
    async with pipeline() as pipe:
        known = redis.known(pipe)
        record = await ended_record(pipe)
        await known.admitted(record, 1.0)
        known.ended(record)
        await settle()
        redis.about.clear()
        redis.ends.clear()
        for forgotten in redis.oblivions:
            forgotten()
        await settle()
        assert record.ticket.id in redis.about
        assert record.ticket.id in redis.ends


@virtual
async def test_a_refused_submit_takes_back_what_it_claimed() -> None:
    """The key for another process, its record at once; a Redis that is away is nobody's failure."""
    redis = Redis()
    given: list[tuple[Any, ...]] = []

    async def abdicate(key: str, epoch: int) -> None:
        given.append((key, epoch))

    redis.abdicate = abdicate  # type: ignore[attr-defined]
    async with pipeline() as pipe:
        known = redis.known(pipe)
        redis.about["id"] = ("leader", 1)
        known.give_up("key", 7, "id")
        await settle()
        assert (given, redis.about) == ([("key", 7)], {})
        redis.away = True
        known.give_up("key", 8, "id")
        await settle()
        assert len(redis.supervisor) == 0
