"""The Redis side of a broadcast that is made here: lazy, level-triggered, and not blind after amnesia."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcast.broadcast import Broadcast
from broadcast.leading import Leading
from broadcast.lifecycle import Signal
from broadcast.log import Log
from broadcast.owner import Finish
from broadcast.shown import one_line
from cache.errors import StoreDown
from cache.flights import Hit, Led, Refused, Wait
from cache.views import Others, View
from tests.fakes.claims import RecordingDriver
from tests.fakes.flights import FakeFlights, chunk, pulse, raw, view
from tests.fakes.turns import settle
from tests.virtual_time import virtual
from upstream.chunk import Chunk

DONE = Finish("completed", b"{}", b"value", 5000)
FAILED = Finish("failed", b"why")


class Watching(RecordingDriver):
    """Counts how often nobody seemed to be interested."""

    asked = 0

    def may_abandon(self, broadcast: Broadcast[Any], *, expired: bool) -> bool:
        self.asked += 1
        return False


class Play:
    """A broadcast under epoch 5 and its leading; the relay's part is played."""

    def __init__(self, *, registered: bool = True, durable: bool = False, private: bool = False) -> None:
        self.flights = FakeFlights()
        self.driver = Watching()
        self.broadcast: Broadcast[Chunk] = Broadcast("key", Log(5), self.driver)
        self.found: list[View | Hit | None] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.leading = Leading(
            self.broadcast, _Owner(self), registered=registered, durable=durable, private=private,
            spawn=self._spawn,
        )  # fmt: skip

    def _spawn(self, leading: Leading) -> None:
        async def sync() -> None:
            try:
                await leading.sync()
            except StoreDown:
                return

        self.tasks.add(asyncio.get_running_loop().create_task(sync()))

    def says(self, *texts: str) -> None:
        self.broadcast.append([chunk(text) for text in texts])
        if self.leading.public:
            self.leading.publish()

    def appended(self) -> list[tuple[int, list[bytes]]]:
        return [(first, chunks) for _, _, first, _, chunks in self.flights.named("append")]


class _Owner:
    def __init__(self, play: Play) -> None:
        self._play = play
        self.flights = play.flights.real

    def body_of(self, broadcast: Broadcast[Chunk]) -> bytes:
        return b"body"

    def eta_s(self, broadcast: Broadcast[Chunk]) -> float | None:
        return None

    def overruled(self, leading: Leading, found: View | Hit | None) -> None:
        self._play.found.append(found)


@virtual
async def test_what_nobody_follows_is_not_written() -> None:
    """Tokens of an unshared answer cost Redis nothing; its end does, once."""
    play = Play()
    play.says("a", "b")
    play.leading.touch()
    await settle()
    assert play.flights.calls == []
    play.leading.end(DONE)
    await settle()
    assert [call[0] for call in play.flights.calls] == ["finish"]
    options = play.flights.calls[0][-1]
    assert (options["value"], options["chunks"], options["first"]) == (b"value", (), 0)
    assert play.leading.over


@virtual
async def test_a_follower_gets_all_and_then_what_comes_in_few_entries() -> None:
    """From the first event on; what comes within the window goes in one."""
    play = Play()
    play.flights.replies["append"] = [Others(1, 1, 1)] * 9
    play.says("a", "b")
    play.leading.publish()
    await settle()
    for text in ("c", "d", "e"):
        play.says(text)
    await asyncio.sleep(1)
    assert play.appended()[0] == (1, [raw("a"), raw("b")])
    assert [one for _, chunks in play.appended() for one in chunks] == [raw(text) for text in "abcde"]
    assert len(play.appended()) <= 3


@virtual
async def test_when_the_last_follower_has_gone_writing_stops() -> None:
    """Lazy again, until somebody wants it; durable never is."""
    for durable, count in ((False, 1), (True, 2)):
        play = Play(durable=durable)
        play.says("a")
        play.leading.publish()
        await asyncio.sleep(1)
        play.says("b")
        await asyncio.sleep(1)
        assert len(play.appended()) == count


@virtual
async def test_a_gap_is_filled_from_where_redis_is() -> None:
    """It has less than we thought: from there on, not from our own belief."""
    play = Play()
    play.flights.replies["append"] = [Others(1, 1, 1), Refused("GAP", "1"), Others(1, 1, 1)]
    play.says("a", "b")
    play.leading.publish()
    await asyncio.sleep(1)
    play.says("c")
    await asyncio.sleep(1)
    assert [first for first, _ in play.appended()] == [1, 3, 2]
    assert play.appended()[-1][1] == [raw("b"), raw("c")]


@virtual
async def test_an_end_with_a_late_follower_carries_the_log() -> None:
    """The lazy end is refused, the second has every event from the first on."""
    play = Play()
    play.flights.replies["finish"] = [Refused("GAP", "0"), None]
    play.says("a", "b")
    play.leading.end(DONE)
    await asyncio.sleep(1)
    first, second = (call[-1] for call in play.flights.calls)
    assert (first["chunks"], second["first"], second["chunks"]) == ((), 1, [raw("a"), raw("b")])
    assert play.leading.over


@virtual
async def test_an_end_that_redis_did_not_hear_is_told_again() -> None:
    """Prototype bug d: the beat touches it until it is over."""
    play = Play()
    play.flights.replies["finish"] = [StoreDown("away"), StoreDown("away"), None]
    play.leading.end(DONE)
    for _ in range(4):
        await settle()
        play.leading.touch()
    assert len(play.flights.named("finish")) == 3
    assert play.leading.over


@virtual
async def test_what_redis_has_forgotten_is_seeded_and_nobodys_interest_is_judged() -> None:
    """After a loss of memory nobody seems to follow: only until the followers have said so again."""
    play = Play()
    play.flights.replies["append"] = [Others(1, 1, 1), Refused("GONE"), Others(), Others(1, 1, 1)]
    play.says("a")
    play.leading.publish()
    await asyncio.sleep(1)
    assert play.broadcast.foreign == Others(1, 1, 1)
    play.says("b")
    await asyncio.sleep(1)
    assert len(play.flights.named("reseed")) == 1
    assert play.flights.named("reseed")[0][-1]["chunks"] == [raw("a"), raw("b")]
    assert play.flights.named("reseed")[0][-1]["body"] == b"body"
    assert play.driver.asked == 0
    assert play.broadcast.foreign.interested


@virtual
async def test_an_idle_end_in_an_amnesia_is_not_believed() -> None:
    """Redis knows of no flight, so it knows of no follower either: not over, but told again."""
    play = Play()
    play.flights.replies["idle"] = [Refused("GONE"), Others(1, 1, 0), None]
    assert not await play.leading.confirm_idle("cancelled", b"{}")
    await settle()
    assert play.flights.named("reseed")
    assert not await play.leading.confirm_idle("cancelled", b"{}")
    assert play.broadcast.foreign == Others(1, 1, 0)
    assert await play.leading.confirm_idle("cancelled", b"{}")


@pytest.mark.parametrize("found", [view(), Hit(b"v"), Refused("BUSY")])
def test_a_claim_that_comes_too_late_is_overruled(found: object) -> None:
    """Begun without Redis, and another leads or has answered: the relay decides what becomes of it."""

    @virtual
    async def overruled() -> None:
        play = Play(registered=False)
        play.flights.replies["join"] = [found]
        play.leading.touch()
        await settle()
        assert play.found == [found if isinstance(found, View | Hit) else None]
        asking = play.flights.named("join")[0][0]
        assert (asking.fresh, asking.read_cache, asking.floor, asking.body) == (True, True, 5, b"body")

    overruled()


@virtual
async def test_a_claim_waits_for_the_guard_and_takes_its_epoch() -> None:
    """Row 56: Redis has lost its memory; once it may be led in, the log gets the epoch that Redis gave."""
    play = Play(registered=False, private=True)
    play.broadcast.signal(Signal.GRANTED)
    play.flights.replies["join"] = [Wait(3000), Led(77)]
    play.leading.touch()
    await asyncio.sleep(2.9)
    assert len(play.flights.named("join")) == 1
    await asyncio.sleep(0.5)
    assert (play.leading.epoch, play.leading.registered) == (77, True)
    assert not play.flights.named("join")[0][0].read_cache


@virtual
async def test_text_that_came_while_redis_was_asked_keeps_its_ids() -> None:
    """A reader has them already: our own epoch is seeded, not the given one taken."""
    play = Play(registered=False)
    play.flights.replies["join"] = [Led(77)]
    play.leading.touch()
    play.says("a")
    await settle()
    assert play.leading.epoch == 5
    assert play.flights.named("join") == []
    assert play.flights.named("reseed")[0][:2] == ("key", 5)


@virtual
async def test_a_beat_tells_of_followers_of_amnesia_and_of_a_successor() -> None:
    """What a lost hint would have said."""
    play = Play()
    play.leading.beaten(pulse(owner="me", others=Others(1, 1, 1)), 0.0, "me")
    await settle()
    assert play.appended()
    play.leading.beaten(pulse(epoch=0, owner=""), 0.0, "me")
    await settle()
    assert play.flights.named("reseed")
    play.leading.beaten(pulse(epoch=9, owner="other"), 0.0, "me")
    play.leading.beaten(pulse(owner="other"), 0.0, "me")
    assert play.found == [None, None]


@virtual
async def test_whoever_is_fenced_writes_no_more() -> None:
    """The relay hears of it; detached, nothing reaches Redis, neither text nor end."""
    play = Play()
    play.flights.replies["append"] = [Refused("FENCED", "9")]
    play.says("a")
    play.leading.publish()
    await settle()
    assert play.found == [None]
    play.leading.detached = True
    before = len(play.flights.calls)
    play.says("b")
    play.leading.end(DONE)
    play.leading.touch()
    await asyncio.sleep(1)
    assert len(play.flights.calls) == before


@virtual
async def test_what_redis_never_heard_of_and_nobody_keeps_is_not_told() -> None:
    """A failure of a flight that began and ended without Redis leaves nothing to say."""
    play = Play(registered=False)
    play.leading.end(FAILED)
    await settle()
    assert play.flights.calls == []
    assert play.leading.over


def test_a_chunk_is_one_line() -> None:
    """A newline in JSON is white space; in an entry it would part two chunks."""
    assert one_line(b'{"a":\n1}') == b'{"a": 1}'
    assert one_line(b"{}") == b"{}"
