"""When a led broadcast speaks to Redis: never for nothing, never twice at once, and not a word too late."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from broadcast.leading import WINDOW_S, Leading
from broadcast.owner import Finish
from cache.flights import Led, Refused
from cache.views import Others
from tests.fakes.flights import chunk, pulse, raw
from tests.fakes.turns import settle, turns
from tests.unit.broadcast.relays import RelayScene, joins, unregistered
from tests.virtual_time import virtual

DONE = Finish("completed", b"{}", b"value", 5000)
FAILED = Finish("failed", b"why")
FOLLOWED = Others(1, 1, 1)


def says(leading: Leading, *texts: str) -> None:
    leading.broadcast.append([chunk(text) for text in texts])


def now() -> float:
    return asyncio.get_running_loop().time()


# -- never for nothing ------------------------------------------------------------------------
@virtual
async def test_a_touch_with_nothing_to_tell_starts_no_task() -> None:
    """It is called for each batch of text of each answer, and at each beat for all of them."""
    scene = RelayScene()
    leading = scene.leads()
    says(leading, "a")
    leading.touch()
    assert len(scene.supervisor) == 0, "nobody follows"
    scene.flights.replies["append"] = [FOLLOWED]
    leading.publish()
    await asyncio.sleep(1)
    leading.touch()
    assert len(scene.supervisor) == 0, "all of it is written"
    says(leading, "b")
    leading.touch()
    assert len(scene.supervisor) == 1
    await asyncio.sleep(1)


@pytest.mark.parametrize("state", ["over", "detached"])
def test_what_is_over_or_anothers_starts_no_task(state: str) -> None:
    """Redis is not touched any more, whoever still wants to know."""

    @virtual
    async def quiet() -> None:
        scene = RelayScene()
        leading = scene.leads()
        says(leading, "a")
        setattr(leading, state, True)
        leading.publish()
        leading.touch()
        leading.end(DONE)
        assert len(scene.supervisor) == 0
        assert scene.flights.calls == []

    quiet()


@pytest.mark.parametrize(("state", "value"), [("over", True), ("detached", True), ("registered", False)])
def test_a_beat_of_what_is_not_ours_to_say_changes_nothing(state: str, value: bool) -> None:
    """Its reply was under way when it ended, was overruled or was forgotten."""

    @virtual
    async def ignored() -> None:
        scene = RelayScene()
        leading = scene.leads()
        says(leading, "a")
        setattr(leading, state, value)
        for found in (pulse(epoch=9, owner="other"), pulse(owner="me", others=FOLLOWED)):
            leading.beaten(found, 0.0, "me")
        await settle()
        assert scene.flights.calls == []
        assert leading.broadcast.foreign == Others()
        assert leading.detached is (state == "detached")

    ignored()


# -- one after another ------------------------------------------------------------------------
@virtual
async def test_one_publication_at_a_time_and_a_window_between_two() -> None:
    """Two at once would leave a gap; what comes within the window goes in one entry."""
    scene = RelayScene()
    scene.flights.replies["append"] = [FOLLOWED] * 9
    leading = scene.leads()
    says(leading, "a")
    leading.publish()
    await turns(1)
    for text in "bc":
        says(leading, text)
        leading.publish()
    await settle()
    await asyncio.sleep(WINDOW_S * 0.9)
    assert len(scene.flights.named("append")) == 1
    await asyncio.sleep(WINDOW_S * 0.2)
    assert [call[4] for call in scene.flights.named("append")] == [[raw("a")], [raw("b"), raw("c")]]


@virtual
async def test_an_end_waits_for_no_window() -> None:
    """Its followers wait for it."""
    scene = RelayScene()
    scene.flights.replies["append"] = [FOLLOWED]
    leading = scene.leads()
    says(leading, "a")
    leading.publish()
    await turns(1)
    leading.end(DONE)
    await settle()
    assert scene.called() == ["append", "finish"]


@pytest.mark.parametrize("state", ["over", "detached"])
def test_what_is_overtaken_while_it_speaks_says_no_more(state: str) -> None:
    """Another leads the key by then: what we would write is fenced, or worse, is not."""

    @virtual
    async def quiet() -> None:
        scene = RelayScene()
        scene.flights.replies["append"] = [FOLLOWED]
        leading = scene.leads()
        leading.publish()
        await turns(1)
        says(leading, "a")
        leading.publish()
        setattr(leading, state, True)
        await asyncio.sleep(1)
        assert scene.called() == ["append"]

    quiet()


@virtual
async def test_whoever_waits_for_a_word_gets_it_with_each() -> None:
    """After each round, and when it is over without any."""
    scene = RelayScene()
    scene.flights.replies["append"] = [FOLLOWED]
    leading, loop = scene.leads(), asyncio.get_running_loop()
    waiting = loop.create_task(leading.until_told())
    leaving = loop.create_task(leading.until_told())
    await settle()
    leaving.cancel()
    leading.publish()
    await asyncio.sleep(1)
    assert waiting.done()
    unknown = await unregistered(other := RelayScene())
    waiting = loop.create_task(unknown.until_told())
    await settle()
    unknown.end(FAILED)
    await settle()
    assert waiting.done()
    assert other.flights.calls == []


# -- what is said -----------------------------------------------------------------------------
@virtual
async def test_its_place_is_told_when_it_has_changed() -> None:
    """A follower's reader sees the queue move; a queue that stands costs nothing."""
    for durable in (False, True):
        scene = RelayScene(durable=durable)
        scene.flights.replies["append"] = [FOLLOWED] * 9
        leading = scene.leads()
        if not durable:
            leading.publish()
            await asyncio.sleep(1)
        before = len(scene.flights.calls)
        said: Any = SimpleNamespace(position=2, told=lambda position: position)
        for admission, appends in ((None, 0), (said, 1), (said, 1), (None, 2)):
            leading.broadcast.admission = admission
            leading.beaten(pulse(owner="me", others=FOLLOWED), now(), "me")
            await asyncio.sleep(1)
            assert len(scene.flights.calls) - before == appends
        phase, _, position, eta_s, *_ = msgspec.json.decode(scene.flights.named("append")[-2][3])
        assert (phase, position, eta_s) == ("waiting", 2, 4.5)


@virtual
async def test_a_place_is_told_to_nobody_who_does_not_follow() -> None:
    """Though it has changed, and what is durable is public: a beat that finds no follower writes nothing."""
    scene = RelayScene(durable=True)
    leading = scene.leads()
    joins(leading.broadcast)
    said: Any = SimpleNamespace(position=2, told=lambda position: position)
    leading.broadcast.admission = said
    leading.beaten(pulse(owner="me"), now(), "me")
    await asyncio.sleep(1)
    assert scene.flights.calls == []


@virtual
async def test_an_end_after_its_followers_have_left_carries_what_they_have_not() -> None:
    """What is there is not sent again, and a log without its last part is never complete."""
    scene = RelayScene()
    leading = scene.leads()
    scene.flights.replies["append"] = [Others(0, 1, 0)]
    says(leading, "a")
    leading.publish()
    await asyncio.sleep(1)
    assert not leading.public
    says(leading, "b")
    leading.end(DONE)
    await settle()
    options = scene.flights.named("finish")[0][-1]
    assert (options["first"], options["chunks"]) == (2, [raw("b")])


@pytest.mark.parametrize("public", [True, False])
def test_what_began_without_redis_is_registered_before_its_end_is_told(public: bool) -> None:
    """An answer is worth keeping, and followers an end, though Redis did not know it when it began."""

    @virtual
    async def told() -> None:
        scene = RelayScene()
        leading = await unregistered(scene)
        scene.flights.replies["join"] = [Led(9), Led(9)]
        if public:
            leading.public = True
        leading.end(FAILED if public else DONE)
        await settle()
        assert scene.called() == ["join", "finish"]
        assert leading.over

    told()


@virtual
async def test_an_end_that_is_there_already_is_an_end() -> None:
    """Told twice, since the first reply was lost."""
    scene = RelayScene()
    leading = scene.leads()
    scene.flights.replies["finish"] = [Refused("ENDED")]
    leading.end(DONE)
    await settle()
    assert leading.over
    assert not leading.detached
    assert scene.called() == ["finish"]
