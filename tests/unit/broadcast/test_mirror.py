"""A mirror: what is pulled follows the cursor, so lost and doubled hints cost time and never an event."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from broadcast.owner import payload_of
from cache.errors import StoreDown
from cache.flights import MAX_ENTRIES
from cache.views import Ending
from runtime.errors import GatewayError, LeaderLost, QueueFull
from tests.fakes.claims import TIMERS
from tests.fakes.flights import batch, pulse, view
from tests.fakes.mirrors import MirrorScene
from tests.fakes.turns import settle
from tests.virtual_time import virtual

COMPLETED = Ending("completed", b"{}")


@virtual
async def test_what_comes_twice_is_there_once() -> None:
    """A batch may begin before the cursor: only what is beyond it is appended."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(1, "a", "b"), events=2))
    scene.mirror.saw(view(batch(1, "a", "b"), batch(2, "b", "c"), events=3))
    assert scene.texts == ["a", "b", "c"]


@virtual
async def test_hints_while_a_pull_is_under_way_bring_one_more() -> None:
    """However many there are: one pull at a time, and one after it for all of them."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [view(batch(1, "a")), view(batch(2, "b"))]
    for _ in range(5):
        scene.mirror.pull()
    await asyncio.sleep(0)
    for _ in range(5):
        scene.mirror.pull()
    await settle()
    assert scene.flights.named("pull") == [("key", 5, 0), ("key", 5, 1)]
    assert scene.texts == ["a", "b"]
    scene.mirror.pull()
    await settle()
    assert scene.flights.named("pull")[2:] == [("key", 5, 2)]


@virtual
async def test_a_pull_that_failed_does_not_keep_the_next_from_coming() -> None:
    """Redis was away for a moment: the next hint or beat pulls from the same place."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [StoreDown("away"), view(batch(1, "a"))]
    scene.mirror.pull()
    await settle()
    scene.mirror.pull()
    await settle()
    assert scene.texts == ["a"]


@virtual
async def test_a_full_reply_is_followed_by_another_pull() -> None:
    """A long log comes in pieces; its end is only in the last."""
    scene = MirrorScene()
    many = [batch(n, f"{n}") for n in range(1, MAX_ENTRIES + 1)]
    scene.flights.replies["pull"] = [
        view(*many),
        view(batch(MAX_ENTRIES + 1, "z"), COMPLETED, state="completed", events=MAX_ENTRIES + 1),
    ]
    scene.mirror.pull()
    await settle()
    assert len(scene.texts) == MAX_ENTRIES + 1
    assert scene.broadcast.phase is Phase.SEALED


@virtual
async def test_another_epoch_voids_what_was_there() -> None:
    """A takeover elsewhere: the log begins anew under the new ids; an older epoch changes nothing."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(1, "old"), events=1))
    scene.mirror.saw(view(batch(1, "new"), epoch=9, owner="other", events=1))
    assert (scene.texts, scene.broadcast.log.epoch, scene.mirror.maker) == (["new"], 9, "other")
    scene.mirror.saw(view(batch(1, "old"), COMPLETED, epoch=5, state="completed"))
    assert scene.texts == ["new"]
    assert scene.broadcast.running


@pytest.mark.parametrize(
    ("entry", "outcome", "code"),
    [
        (COMPLETED, Outcome.COMPLETED, None),
        (Ending("failed", payload_of(QueueFull("full"))), Outcome.FAILED, "queue_full"),
        (Ending("failed", b"nonsense"), Outcome.FAILED, LeaderLost.code),
        (Ending("cancelled", b"{}"), Outcome.CANCELLED, None),
        (Ending("expired", payload_of(GatewayError(code="slot_timeout"))), Outcome.EXPIRED, "slot_timeout"),
    ],
)
def test_it_ends_as_its_maker_says(entry: Ending, outcome: Outcome, code: str | None) -> None:
    """With the same outcome and the same error, once."""

    @virtual
    async def ends() -> None:
        scene = MirrorScene()
        scene.mirror.saw(view(entry, state=entry.how))
        assert scene.broadcast.end is not None
        assert scene.broadcast.end.outcome is outcome
        error = scene.broadcast.end.error
        assert (error and error.code) == code
        scene.mirror.ended("failed", b"")
        assert scene.broadcast.end.outcome is outcome

    ends()


@virtual
async def test_an_end_without_its_entry_is_an_honest_failure() -> None:
    """It has ended, and how is not in its log: somebody has deleted what was not read."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(1, "a"), state="completed", events=2))
    assert scene.broadcast.end is not None
    assert scene.broadcast.end.outcome is Outcome.FAILED


@virtual
async def test_a_completed_answer_without_all_its_text_is_not_complete() -> None:
    """Its log was lost under it (evicted, expired): a short text must never pass for the answer."""
    scene = MirrorScene()
    scene.mirror.saw(view(batch(3, "c"), COMPLETED, state="completed", events=3))
    assert scene.broadcast.end is None or scene.broadcast.end.outcome is Outcome.FAILED


@virtual
async def test_a_gap_that_stays_is_not_pulled_for_in_a_loop() -> None:
    """What is not there now is not there a microsecond later: the next hint or beat looks again."""
    scene = MirrorScene()
    scene.flights.replies["pull"] = [view(batch(3, "c"), events=3) for _ in range(50)] + [
        view(Ending("failed", b""), state="failed")
    ]
    scene.mirror.pull()
    await settle()
    assert len(scene.flights.named("pull")) <= 2


@virtual
async def test_a_leader_that_is_gone_is_noticed_from_a_view_and_from_a_beat() -> None:
    """By its lapsed lease, or because its process is known to be dead; not once it has ended."""
    scene = MirrorScene()
    scene.mirror.saw(view(left_ms=-1))
    assert scene.gone == 1
    scene.dead.add("maker")
    scene.mirror.saw(view())
    assert scene.gone == 2
    scene.mirror.beaten(pulse())
    assert scene.gone == 3
    scene.mirror.saw(view(COMPLETED, state="completed", left_ms=-1))
    assert scene.gone == 3


@pytest.mark.parametrize(
    ("news", "told"),
    [
        (pulse(), False),
        (pulse(events=1), True),
        (pulse(epoch=6), True),
        (pulse(state="completed"), True),
        (pulse(published=False), True),
        (pulse(left_ms=-1), True),
        (pulse(epoch=0), True),
    ],
)
def test_a_beat_brings_what_hints_have_not(news: object, told: bool) -> None:
    """Anything that differs from what is here makes it pull; the usual beat costs nothing."""

    @virtual
    async def beaten() -> None:
        scene = MirrorScene()
        scene.mirror.saw(view())
        scene.mirror.beaten(news)  # type: ignore[arg-type]
        await settle()
        assert bool(scene.flights.named("pull")) is told

    beaten()


@virtual
async def test_what_redis_has_forgotten_makes_an_orphan_until_it_is_back() -> None:
    """Since when is kept, for how long decides whether it is led anew."""
    scene = MirrorScene()
    scene.mirror.saw(None)
    since = scene.mirror.orphan_since
    await asyncio.sleep(1)
    scene.mirror.saw(None)
    assert since is not None
    assert scene.mirror.orphan_since == since
    scene.mirror.saw(view())
    assert scene.mirror.orphan_since is None


@virtual
async def test_the_stake_is_said_when_it_changes_and_ends_on_the_newest() -> None:
    """What an earlier mirror had is unknown, so the first word is always said; the last is what is true."""
    scene = MirrorScene()
    scene.mirror.attended()
    await settle()
    assert [call[1] for call in scene.flights.named("stake")] == ["f"]
    native = scene.join(attached=False)
    scene.mirror.attended()
    await asyncio.sleep(0)
    native.connect()
    await settle()
    assert [call[1] for call in scene.flights.named("stake")] == ["f", "fi", "fi+"]
    scene.mirror.attended()
    await settle()
    assert len(scene.flights.named("stake")) == 3
    native.disconnect()
    await asyncio.sleep(TIMERS.grace_s + 1)


@virtual
async def test_an_end_for_want_of_interest_is_contradicted_by_who_has_just_come() -> None:
    """Its maker had not heard of them: with the question at hand it is made again, without it is over."""
    for body, wanted, running in (({"q": 1}, 1, True), (None, 0, False)):
        scene = MirrorScene()
        scene.mirror.body = body
        scene.join()
        scene.mirror.saw(view(Ending("cancelled", b"{}"), state="cancelled"))
        assert (scene.wanted, scene.broadcast.running) == (wanted, running)


@virtual
async def test_the_question_is_learnt_from_what_its_maker_stored() -> None:
    """Durable: then this process could answer it; what cannot be read is as if it were not there."""
    scene = MirrorScene()
    scene.mirror.saw(view(body=b"nonsense"))
    assert scene.mirror.body is None
    scene.mirror.saw(view(body=b'{"q":1}'))
    scene.mirror.saw(view(body=b'{"q":2}'))
    assert scene.mirror.body == {"q": 1}
