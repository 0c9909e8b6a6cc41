"""The text of a request that ended in another process: from wherever it is, or an honest no."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cache.codec import encode
from cache.names import flight_keys, log_key
from cache.requests import Known
from chatbot import told
from chatbot.record import Role
from chatbot.texts import OWNER_S, Texts
from runtime.errors import HistoryGone
from tests.fakes.answers import answer, key
from tests.fakes.flights import raw
from tests.virtual_time import virtual

KEY, EPOCH = key(1), 1_700_000_000_001
KNOWN = Known(b"about", "leader", EPOCH, "owner", b"end")
ABOUT = told.About("tenant", KEY, 0.0, "interactive", True, "chat", "miss")
STOP = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
CACHED = encode(replace(answer(1), chunks=(raw("c"), STOP)))


class Redis:
    """Strings by name, and what was pushed to whom."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.dead: set[str] = set()
        self.pushed: list[tuple[str, str]] = []
        self.answers = False
        self.link = self.flights = self
        self.record: Any = SimpleNamespace(
            ticket=SimpleNamespace(id="chat_x"), role=Role.LEADER, hit_ttl_s=None
        )

    async def do(self, command: str, name: str) -> bytes | None:
        assert command == "GET"
        await asyncio.sleep(0)
        return self.values.get(name)

    async def push(self, proc: str, message: str) -> None:
        self.pushed.append((proc, message))
        if self.answers:
            asyncio.get_running_loop().call_later(0.1, self.write)

    def write(self) -> None:
        self.values[log_key(KEY, EPOCH)] = raw("a") + b"\n" + raw("b")

    def is_dead(self, proc: str) -> bool:
        return proc in self.dead

    async def text(self, known: Known = KNOWN, **end: Any) -> str:
        ended = told.Ended(**{"outcome": "completed", **end})
        log = await Texts(self).log_of(known, ABOUT, ended, self.record)  # type: ignore[arg-type]
        assert log.ended
        return "".join(chunk.text for chunk in log.events)


@virtual
async def test_what_is_written_down_is_read_without_asking() -> None:
    """Durable, or asked for before."""
    redis = Redis()
    redis.write()
    assert await redis.text() == "ab"
    assert redis.pushed == []


@virtual
async def test_its_owner_is_asked_once_and_waited_for() -> None:
    """It writes its text down for whoever asks."""
    redis = Redis()
    redis.answers = True
    assert await redis.text() == "ab"
    assert redis.pushed == [("owner", "P|chat_x")]


@virtual
async def test_the_cache_serves_its_own_generation_only() -> None:
    """A later answer of the same question is another text, under other ids."""
    redis = Redis()
    redis.values[flight_keys(KEY)[4]] = CACHED
    assert await redis.text() == "c"
    with pytest.raises(HistoryGone):
        await redis.text(replace(KNOWN, epoch=EPOCH - 1))


@virtual
async def test_a_hit_takes_any_epoch_and_learns_its_ttl() -> None:
    """Its record does not name one: it was written before the cache was read."""
    redis = Redis()
    redis.values[flight_keys(KEY)[4]] = CACHED
    redis.record.role = Role.CACHED
    assert await redis.text(replace(KNOWN, epoch=0)) == "c"
    assert redis.record.hit_ttl_s is not None


@pytest.mark.parametrize(("dead", "longest"), [(True, 0.0), (False, OWNER_S + 0.1)])
def test_a_text_that_nobody_has_is_gone(dead: bool, longest: float) -> None:
    """410 for a complete answer, at once if its owner is dead; what failed is shown without its text."""

    @virtual
    async def gone() -> None:
        redis = Redis()
        redis.dead = {"owner"} if dead else set()
        begun = asyncio.get_running_loop().time()
        with pytest.raises(HistoryGone):
            await redis.text()
        assert asyncio.get_running_loop().time() - begun <= longest
        assert await redis.text(outcome="failed") == ""

    gone()


@virtual
async def test_an_end_before_the_first_event_has_no_text_to_look_for() -> None:
    """Nobody is asked, nothing is read."""
    redis = Redis()
    redis.write()
    assert await redis.text(outcome="cancelled", events=0) == ""
    assert redis.pushed == []
