"""One request_id of one tenant is admitted once, also when it is submitted twice at the same time."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest

from chatbot.idempotency import Idempotency
from chatbot.record import CacheResult, Record, Role
from chatbot.ticket import Ticket
from runtime.errors import Conflict, QueueFull
from tests.cancellation import cancel_at_every_await
from tests.fakes.turns import settle
from tests.virtual_time import virtual


def record() -> Record:
    return Record(Ticket.issue("t"), Role.LEADER, CacheResult.MISS, native=True, route="chat")


class Door:
    """Submits that are admitted once `gate` is open, or refused as often as `refusals` says."""

    def __init__(self) -> None:
        self.idempotency = Idempotency()
        self.gate = asyncio.Event()
        self.refusals = 0
        self.admitted: list[Record] = []

    def _by_id(self, id: str) -> Record:
        return next(record for record in self.admitted if record.ticket.id == id)

    async def submit(self, name: str = "r", tenant: str = "t", digest: str = "d") -> Record:
        known = await self.idempotency.known(tenant, name, digest)
        if known is not None:
            return self._by_id(known)
        with self.idempotency.first(tenant, name, digest) as entry:
            await self.gate.wait()
            if self.refusals:
                self.refusals -= 1
                raise QueueFull
            made = record()
            entry.record_id = made.ticket.id
            self.admitted.append(made)
        return made


@virtual
async def test_duplicates_at_the_same_time_get_the_one_record() -> None:
    """Row 41: ten at once, one is admitted, all have its record."""
    door = Door()
    async with asyncio.TaskGroup() as group:
        submits = [group.create_task(door.submit()) for _ in range(10)]
        await settle()
        assert door.admitted == []
        door.gate.set()
    assert {id(submit.result()) for submit in submits} == {id(door.admitted[0])}
    assert await door.submit() is door.admitted[0]
    assert len(door.admitted) == 1


@virtual
async def test_a_refused_first_does_not_consume_the_name() -> None:
    """The next of those who waited tries itself, and only one of them at a time."""
    door = Door()
    door.refusals = 2
    async with asyncio.TaskGroup() as group:
        submits = [group.create_task(refused_or_record(door)) for _ in range(5)]
        await settle()
        door.gate.set()
    results = [submit.result() for submit in submits]
    assert results.count(None) == 2
    assert len(door.admitted) == 1
    assert [result for result in results if result is not None] == door.admitted * 3


async def refused_or_record(door: Door) -> Record | None:
    try:
        return await door.submit()
    except QueueFull:
        return None


@virtual
async def test_the_same_name_for_another_request_is_a_conflict_at_once() -> None:
    """Also while the first is being admitted: it is not worth waiting for."""
    door = Door()
    async with asyncio.TaskGroup() as group:
        group.create_task(door.submit())
        await settle()
        with pytest.raises(Conflict) as conflict:
            await door.submit(digest="other")
        assert conflict.value.param == "request_id"
        door.gate.set()
    with pytest.raises(Conflict):
        await door.submit(digest="other")


@virtual
async def test_names_are_the_tenants_own() -> None:
    """Another tenant's request_id is none of mine."""
    door = Door()
    door.gate.set()
    one, other = await door.submit(tenant="a"), await door.submit(tenant="b")
    assert one is not other


@virtual
async def test_a_forgotten_record_frees_its_name() -> None:
    """Kept until retention ends, and not a moment longer: nothing is left of it."""
    door = Door()
    door.gate.set()
    old = await door.submit()
    door.idempotency.forget([old.ticket.id, "unknown"])
    assert len(door.idempotency) == 0
    assert await door.submit() is not old


@virtual
async def test_a_cancelled_first_lets_the_next_one_in() -> None:
    """Wherever the first client leaves, whoever waits with the same name is admitted in its place."""
    names = (f"r{number}" for number in count())
    door = Door()
    waiting: list[asyncio.Task[Record]] = []
    async with asyncio.TaskGroup() as group:

        async def first() -> None:
            name = next(names)
            waiting.append(group.create_task(door.submit(name)))
            asyncio.get_running_loop().call_later(1, door.gate.set)
            await door.submit(name)

        async def others_are_served(n: int) -> None:
            door.gate.set()
            await waiting[-1]
            door.gate.clear()

        assert await cancel_at_every_await(first, others_are_served) == 1
    assert len(door.admitted) == 2
