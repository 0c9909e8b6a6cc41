"""Until when a broadcast may be joined that has found what is not true for long: here, and elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from broadcast.answering import Answering
from broadcast.bounds import Bounds
from broadcast.broadcast import Broadcast
from broadcast.claim import Claim
from broadcast.lifecycle import Phase
from broadcast.manager import BroadcastManager
from broadcast.sealing import Sealing
from cache.errors import StoreDown
from cache.flights import Led
from cache.views import FOREVER_MS, Others
from processing.preparer import Preparer, Prompt
from tests.fakes.claims import TIMERS, Ticket
from tests.fakes.flights import view
from tests.fakes.mirrors import MirrorScene
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle, until
from tests.unit.broadcast.relays import KEY, RelayScene, joins, unregistered
from tests.unit.broadcast.test_overruled import Relay
from tests.virtual_time import virtual
from upstream.chunk import Chunk
from upstream.client import ModelClient

BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "q"}]}


def now() -> float:
    return asyncio.get_running_loop().time()


class Finds:
    """A step that takes a second, and whose result is true for `fresh_s`."""

    name = "finds"

    def __init__(self, fresh_s: float | None) -> None:
        self._fresh_s = fresh_s

    def applies(self, body: Mapping[str, Any]) -> bool:
        return True

    async def run(self, prompt: Prompt) -> Prompt:
        await asyncio.sleep(1)
        return replace(prompt, fresh_s=self._fresh_s)


def leads(pipe: Pipeline, fresh_s: float | None) -> tuple[Broadcast[Chunk], Claim]:
    """What has begun to be prepared, and its request, which listens to nothing yet."""
    answering = Answering(cast(ModelClient, pipe.model), pipe.llm_streams, pipe.retry, slot_s=9)
    bounds = Bounds(max_pending=9, max_log_bytes=9999, queue_s=9, slot_s=9, prepare_s=9)
    manager = BroadcastManager(
        pipe.flights, pipe.leaders, pipe.llm_streams, Preparer([Finds(fresh_s)]), answering,
        Sealing(pipe.lane, 60), pipe.supervisor, bounds, finish_unwatched=False,
    )  # fmt: skip
    broadcast = manager.open("k", BODY, 1.0)
    claim = Claim(Ticket("c", 0.0), broadcast, TIMERS, attached=False, on_end=lambda claim: None)
    broadcast.join(claim)
    manager.begin(broadcast)
    return broadcast, claim


@pytest.mark.parametrize(
    ("fresh_s", "joined"), [(None, [True] * 3), (2.0, [True, True, False]), (0.0, [False] * 3)]
)
def test_who_comes_too_late_does_not_join(fresh_s: float | None, joined: list[bool]) -> None:
    """Row 12: while it is prepared everybody joins; from then on the seconds count, streaming or not."""

    @virtual
    async def late() -> None:
        async with pipeline() as pipe:
            broadcast, claim = leads(pipe, fresh_s)
            await asyncio.sleep(0.9)
            assert (broadcast.phase, broadcast.joinable) == (Phase.PREPARING, True)
            await asyncio.sleep(0.2)
            assert broadcast.phase is Phase.IDLE
            seen = [broadcast.joinable]
            await asyncio.sleep(1.8)
            seen.append(broadcast.joinable)
            await asyncio.sleep(0.2)
            seen.append(broadcast.joinable)
            assert seen == joined
            claim.connect()
            await until(lambda: claim.ended is not None)
            assert claim.ended is not None
            assert claim.ended.error is None, "who follows already is served"
            claim.disconnect()

    late()


@virtual
async def test_what_is_made_again_is_prepared_again() -> None:
    """A takeover begins with the question: what its first maker had found is of no account."""
    scene = RelayScene()
    broadcast = scene.broadcast()
    broadcast.fresh_until = now()
    assert not broadcast.joinable
    broadcast.restart(9, remote=False)
    assert broadcast.joinable


# -- what Redis is told -----------------------------------------------------------------------
@virtual
async def test_what_is_true_for_long_costs_no_call() -> None:
    """The hot path: a flight whose preparation bounds nothing is told of as before, which is not at all."""
    scene = RelayScene()
    leading = scene.leads()
    scene.relay.changed(leading.broadcast)
    leading.touch()
    await settle()
    assert scene.called() == []


@virtual
async def test_redis_is_told_once_for_how_long_others_may_follow() -> None:
    """From then on, in ms; neither text nor a beat says it again, and nothing else of it is published."""
    scene = RelayScene()
    leading = scene.leads()
    leading.broadcast.fresh_until = now() + 2.5
    scene.relay.changed(leading.broadcast)
    await asyncio.sleep(1)
    ((_, epoch, _, options),) = scene.flights.named("reseed")
    assert (epoch, options["fresh_ms"], options["published"], options["chunks"]) == (5, 2500, False, [])
    scene.relay.changed(leading.broadcast)
    leading.touch()
    await settle()
    assert scene.called() == ["reseed"]


@virtual
async def test_followers_are_told_after_redis_is() -> None:
    """Whoever is hinted at a new phase and pulls finds the time as well."""
    scene = RelayScene()
    scene.flights.replies["append"] = [Others(1, 1, 1)] * 9
    leading = scene.leads()
    leading.broadcast.fresh_until = now()
    leading.publish()
    await asyncio.sleep(1)
    assert scene.called() == ["reseed", "append"]
    assert scene.flights.named("reseed")[0][-1]["fresh_ms"] == 0


@virtual
async def test_a_redis_that_was_away_is_told_at_the_next_beat() -> None:
    """Level-triggered: what could not be said is said later, with the time that is left then."""
    scene = RelayScene()
    leading = scene.leads()
    scene.flights.replies["reseed"] = [StoreDown("away")]
    leading.broadcast.fresh_until = now() + 3
    scene.relay.changed(leading.broadcast)
    await asyncio.sleep(1)
    leading.touch()
    await settle()
    assert [call[-1]["fresh_ms"] for call in scene.flights.named("reseed")] == [3000, 2000]


@virtual
async def test_what_redis_had_forgotten_is_told_with_its_time() -> None:
    """After a loss of memory, or where it began without Redis; one that never ends is a long one."""
    scene = RelayScene()
    leading = scene.leads()
    leading.forgotten()
    await settle()
    leading.broadcast.fresh_until = now()
    leading.forgotten()
    await asyncio.sleep(1)
    assert [call[-1]["fresh_ms"] for call in scene.flights.named("reseed")] == [FOREVER_MS, 0]

    scene = RelayScene()
    leading = await unregistered(scene)
    leading.broadcast.fresh_until = now()
    scene.flights.replies["join"] = [Led(9)]
    leading.touch()
    await asyncio.sleep(1)
    assert scene.called() == ["join", "reseed"]


@virtual
async def test_nobody_is_told_of_what_nobody_can_ask_for() -> None:
    """A private answer's key is known to its own request alone."""
    scene = RelayScene()
    broadcast = scene.broadcast()
    scene.relay.led(broadcast, registered=True, private=True)
    broadcast.fresh_until = now()
    scene.relay.changed(broadcast)
    scene.relay.leads[KEY].touch()
    await settle()
    assert scene.called() == []


# -- what Redis tells -------------------------------------------------------------------------
@virtual
async def test_a_mirror_is_joined_as_long_as_its_maker_says() -> None:
    """Row 12: also through a process that only relays; another epoch has another time."""
    scene = MirrorScene()
    scene.mirror.saw(view())
    assert scene.broadcast.joinable
    scene.mirror.saw(replace(view(), fresh_ms=1500))
    await asyncio.sleep(1.4)
    assert scene.broadcast.joinable
    await asyncio.sleep(0.2)
    assert not scene.broadcast.joinable
    scene.mirror.saw(view(epoch=6))
    assert scene.broadcast.joinable


@virtual
async def test_ours_is_not_given_up_for_what_is_too_old_to_be_joined() -> None:
    """It began while Redis was away: it goes on for its own readers, and follows no other."""
    relay = Relay()
    relay.played.replies["attach"] = [replace(view(epoch=9, owner="other"), fresh_ms=0)]
    relay.act(None)
    await settle()
    assert relay.done == ["detach"]
    assert relay.leading.broadcast.running


@virtual
async def test_whoever_follows_already_goes_on() -> None:
    """The time is for newcomers: it ends no claim."""
    scene = RelayScene()
    broadcast = scene.broadcast()
    claim = joins(broadcast)
    broadcast.fresh_until = now()
    await settle()
    assert (claim.ended, broadcast.running) == (None, True)
