"""What a follower does when its leader is gone: nothing is spliced, and nobody waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.claim import Claim
from broadcast.mirror import Mirror
from broadcast.subscription import Subscription
from broadcast.takeover import JITTER_S, PATIENCE_S, Takeover
from cache.errors import StoreDown
from cache.flights import Led, Refused, Wait
from runtime.errors import LeaderLost, WorkerLost
from tests.fakes.flights import FakeFlights, batch, view
from tests.fakes.mirrors import MirrorScene
from tests.virtual_time import virtual


class Relay:
    durable = False

    def __init__(self, flights: FakeFlights) -> None:
        self.flights = flights.real
        self.dead: set[str] = set()
        self.led: list[int] = []

    def is_dead(self, proc: str) -> bool:
        return proc in self.dead

    def lead_instead(self, mirror: Mirror, epoch: int) -> None:
        self.led.append(epoch)


class Play(MirrorScene):
    def __init__(self, *, body: bool = True, attached: bool = True) -> None:
        super().__init__()
        self.mirror.body = {"q": 1} if body else None
        self.mirror.maker = "maker"
        self.mirror.taking_over = True
        self.relay = Relay(self.flights)
        self.takeover = Takeover(self.relay)
        self.claim: Claim = self.join(attached=attached)

    @property
    def error(self) -> str | None:
        end = self.broadcast.end
        return end.error.code if end is not None and end.error is not None else None


@virtual
async def test_one_try_and_it_leads() -> None:
    """With a nonce of its own, naming the dead only if they are known to be."""
    for dead in ("", "maker"):
        play = Play()
        play.relay.dead = {dead}
        play.flights.replies["take_over"] = [Led(9)]
        await play.takeover.run(play.mirror)
        assert play.relay.led == [9]
        ((key, epoch, nonce, named, body),) = play.flights.named("take_over")
        assert (key, epoch, named, body) == ("key", 5, dead, b"")
        assert nonce
        assert not play.mirror.taking_over


@virtual
async def test_it_waits_for_the_guard_with_the_same_nonce() -> None:
    """Redis has lost its memory: asked again after that, as the same attempt."""
    play = Play()
    play.flights.replies["take_over"] = [Wait(2000), Led(9)]
    begun = asyncio.get_running_loop().time()
    await play.takeover.run(play.mirror)
    assert 2.0 <= asyncio.get_running_loop().time() - begun <= 2.0 + JITTER_S
    first, second = play.flights.named("take_over")
    assert first == second
    assert play.relay.led == [9]


@pytest.mark.parametrize(("why", "pulls"), [("LATE", 1), ("ENDED", 1), ("ALIVE", 1), ("GONE", 0)])
def test_who_comes_too_late_looks_what_there_is(why: str, pulls: int) -> None:
    """Another has taken over, it ended, or its leader lives: the log says so. Nothing there: an orphan."""

    @virtual
    async def late() -> None:
        play = Play()
        play.flights.replies["take_over"] = [Refused(why, "9")]
        await play.takeover.run(play.mirror)
        await asyncio.sleep(0.01)
        assert len(play.flights.named("pull")) == pulls
        assert play.relay.led == []
        assert play.broadcast.running

    late()


@virtual
async def test_an_openai_reader_who_has_seen_text_gets_an_honest_end() -> None:
    """Two generations are never spliced: leader_lost, retryable, and no new call of the model for nobody."""
    play = Play(attached=True)
    play.mirror.saw(view(batch(1, "text"), events=1))
    reader = Subscription(play.broadcast.log, 1)
    play.broadcast.readers.add(reader)
    await play.takeover.run(play.mirror)
    assert play.error == LeaderLost.code
    assert play.flights.named("take_over") == []


@virtual
async def test_a_native_reader_is_served_anew() -> None:
    """With text shown too: it gets a reset."""
    play = Play(attached=False)
    play.mirror.saw(view(batch(1, "text"), events=1))
    play.broadcast.readers.add(Subscription(play.broadcast.log, 1))
    play.flights.replies["take_over"] = [Led(9)]
    await play.takeover.run(play.mirror)
    assert play.relay.led == [9]


@virtual
async def test_for_nobody_nothing_is_made() -> None:
    """Somebody only asked for its status here: whoever comes makes the next beat look again."""
    play = Play()
    play.claim.withdraw()
    play.mirror.taking_over = True
    await play.takeover.run(play.mirror)
    assert play.flights.calls == []
    assert not play.mirror.taking_over


@virtual
async def test_without_the_question_others_are_waited_for_and_not_for_ever() -> None:
    """With somebody interested elsewhere a lease and a bit, without at once: then the worker is lost."""
    for interested, longest in ((0, 0.1), (1, 15.0 + PATIENCE_S + 0.1)):
        play = Play(body=False)
        play.flights.replies["attach"] = [view(interested=interested)]
        begun = asyncio.get_running_loop().time()
        await play.takeover.run(play.mirror)
        assert play.error == WorkerLost.code
        assert longest - 0.2 <= asyncio.get_running_loop().time() - begun <= longest


@virtual
async def test_another_that_took_over_is_followed() -> None:
    """A new epoch while it waits: it goes on reading, and no end is made up."""
    play = Play(body=False)
    play.flights.replies["attach"] = [view(interested=1)]
    asyncio.get_running_loop().call_later(1.0, lambda: play.mirror.saw(view(epoch=9, owner="other")))
    await play.takeover.run(play.mirror)
    assert play.broadcast.running
    assert play.broadcast.log.epoch == 9


@virtual
async def test_an_orphan_leads_anew_above_its_epoch_or_joins() -> None:
    """Prototype bug h: nobody anywhere leads, and Redis knows nothing of it."""
    play = Play()
    play.flights.replies["join"] = [Led(9)]
    await play.takeover.adopt(play.mirror)
    assert play.relay.led == [9]
    (asking,) = play.flights.named("join")[0][:1]
    assert (asking.floor, asking.read_cache, asking.key) == (5, False, "key")
    other = Play()
    other.flights.replies["join"] = [view(batch(1, "a"), epoch=9, owner="other", events=1)]
    await other.takeover.adopt(other.mirror)
    assert (other.relay.led, other.texts) == ([], ["a"])


@virtual
async def test_an_orphan_without_its_question_is_lost() -> None:
    """Honestly, and retryable."""
    play = Play(body=False)
    await play.takeover.adopt(play.mirror)
    assert play.error == WorkerLost.code


@virtual
async def test_without_redis_the_next_beat_tries_again() -> None:
    """No end is made of a Redis that is away, and the mirror may be taken over later."""
    for name in ("take_over", "join"):
        play = Play()
        play.flights.replies[name] = [StoreDown("away")]
        await (play.takeover.run if name == "take_over" else play.takeover.adopt)(play.mirror)
        assert play.broadcast.running
        assert not play.mirror.taking_over
