"""Row 41 over several processes: a request_id of a tenant is admitted once, never blocked by the dead."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from admission import Priority
from cache.errors import StoreDown
from chatbot.once import ADMITTING_S, OnceEverywhere
from chatbot.ticket import Ticket
from runtime.errors import Conflict, NotFound
from tests.virtual_time import virtual

TICKET = Ticket("chat_mine", "tenant", Priority.INTERACTIVE, 0.0, 0.0)
GUARD_S = 2.0


class Play:
    """Redis' memory of request_ids, and the records that can be found. `claims` is each attempt."""

    def __init__(self) -> None:
        self.owner: str | None = None
        self.records: dict[str, Any] = {}
        self.dead: set[str] = set()
        self.up = True
        self.away = False
        self.running_ms = 60_000
        self.claims: list[tuple[str, str]] = []
        self.released: list[tuple[str, str, str]] = []
        self.sought = 0
        self.flights = SimpleNamespace(guard_s=GUARD_S, link=SimpleNamespace(proc="me"))
        self.once = OnceEverywhere(self, self, self, self.seek)  # type: ignore[arg-type]

    async def first(self, tenant: str, request_id: str, value: str, ttl_ms: int, stale: str = "") -> str:
        assert (tenant, request_id, ttl_ms) == ("tenant", "r", 60_000)
        self.claims.append((value, stale))
        await asyncio.sleep(0)
        if self.away:
            raise StoreDown("away")
        if self.owner is None or self.owner == stale:
            self.owner = value
        return self.owner

    async def seek(self, id: str, tenant: str) -> Any:
        assert tenant == "tenant"
        self.sought += 1
        await asyncio.sleep(0)
        if id not in self.records:
            raise NotFound("no")
        return self.records[id]

    def is_dead(self, proc: str) -> bool:
        return proc in self.dead

    def release(self, tenant: str, request_id: str, value: str) -> None:
        self.released.append((tenant, request_id, value))

    async def earlier(self, digest: str = "d") -> Any:
        return await self.once.earlier("r", TICKET, digest)


@virtual
async def test_the_first_may_go_on() -> None:
    """Nobody was before it; said again, it is still its own. A refusal releases exactly what was claimed."""
    play = Play()
    assert await play.earlier() is None
    assert await play.earlier() is None
    assert play.sought == 0
    play.once.release("r", TICKET, "d")
    assert play.released == [("tenant", "r", play.owner)]


@virtual
async def test_the_second_gets_the_record_of_the_first() -> None:
    """Wherever it is; also when it is still being admitted there."""
    play = Play()
    play.owner = "chat_other|d|them"
    record = object()
    asyncio.get_running_loop().call_later(ADMITTING_S, play.records.__setitem__, "chat_other", record)
    assert await play.earlier() is record
    assert {stale for _, stale in play.claims} == {""}


@virtual
async def test_another_body_is_a_conflict_at_once() -> None:
    """409, without looking for the other's record."""
    play = Play()
    play.owner = "chat_other|d|them"
    with pytest.raises(Conflict):
        await play.earlier("another digest")
    assert play.sought == 0


@pytest.mark.parametrize(("dead", "longest"), [(False, ADMITTING_S + GUARD_S + 0.1), (True, 0.0)])
def test_a_claim_that_never_became_a_request_is_taken_over(dead: bool, longest: float) -> None:
    """Its process died before it admitted it: waited for once, and not at all if it is known to be dead."""

    @virtual
    async def taken_over() -> None:
        play = Play()
        play.owner = "chat_other|d|them"
        play.dead = {"them"} if dead else set()
        begun = asyncio.get_running_loop().time()
        assert await play.earlier() is None
        assert asyncio.get_running_loop().time() - begun <= longest
        assert [stale for _, stale in play.claims if stale] == ["chat_other|d|them"]
        assert (play.owner or "").startswith("chat_mine|d|")

    taken_over()


@virtual
async def test_of_two_who_find_it_stale_the_second_follows_the_first() -> None:
    """It looks again, and finds whose it has become."""
    play = Play()
    play.owner = "chat_dead|d|them"
    play.dead = {"them"}
    winner = object()

    async def wins() -> None:
        play.owner = "chat_winner|d|they"
        play.records["chat_winner"] = winner

    async with asyncio.TaskGroup() as group:
        task = group.create_task(play.earlier())
        await asyncio.sleep(0)
        await wins()
    assert task.result() is winner


@virtual
async def test_without_redis_each_process_knows_its_own_alone() -> None:
    """Down before or while it is asked: the submit goes on."""
    play = Play()
    play.up = False
    assert await play.earlier() is None
    assert play.claims == []
    play.up, play.away = True, True
    assert await play.earlier() is None


@virtual
async def test_what_is_refused_elsewhere_is_free_at_once() -> None:
    """Another process has refused it by now: nobody waits out the time that a living one gets."""
    play = Play()
    play.owner = "chat_other|d|they"
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.TaskGroup() as group:
        later = group.create_task(play.earlier())
        await asyncio.sleep(0.1)
        play.owner = None
    assert later.result() is None
    assert play.owner == play.claims[0][0]
    assert loop.time() - begun < 0.2
