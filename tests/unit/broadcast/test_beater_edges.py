"""What a beat does with what it hears: whom it asks about, whom it lets in, and when it doubts its ears."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.beater import DEAF_BEATS, Beater, beat_s, guard_s
from runtime.supervisor import Supervisor
from tests.fakes.flights import pulse
from tests.fakes.turns import settle
from tests.unit.broadcast.test_beater import LEASE_S, Followed, Led, Play
from tests.virtual_time import virtual


@virtual
async def test_its_loop_says_what_is_led_and_followed() -> None:
    """That this process lives is only the half of it: leases are held by what is said of each."""
    lead = Led(1)
    play = Play([lead], [])
    play.played.replies["beat"] = [[pulse()] for _ in range(9)]
    supervisor = Supervisor()
    supervisor.own("beat", play.beater.run())
    await asyncio.sleep(2 * beat_s(LEASE_S) + 0.1)
    assert len(play.played.named("beat")) == play.beats == 3
    assert len(lead.beats) == 3
    await supervisor.close()


@virtual
async def test_one_that_is_asked_about_is_asked_about_alone() -> None:
    """A newcomer waits for it: the others' turn is the beat, and what is behind stays for that as well."""
    lead, other, mirror = Led(1), Led(65), Followed(129)
    play = Play([lead, other], [mirror])
    play.hints = 4
    play.played.replies["beat"] = [[pulse()]]
    await play.beater.beat([lead])  # type: ignore[list-item]
    assert play.played.named("beat") == [(1, [(lead.key, "L5")])]
    assert (len(lead.beats), len(other.beats), len(mirror.beats)) == (1, 0, 0)
    assert (lead.touched, other.touched, play.hints) == (0, 0, 4)


@virtual
async def test_between_two_partitions_others_have_their_turn() -> None:
    """Thousands of broadcasts are no reason to keep everybody's tokens waiting."""
    heard: list[str] = []

    class Loud(Led):
        def beaten(self, pulse: object, asked_at: float, me: str) -> None:
            heard.append("beat")
            asyncio.get_running_loop().call_soon(heard.append, "other work")

    play = Play([Loud(1), Loud(2)], [])
    play.played.replies["beat"] = [[pulse()], [pulse()]]
    await play.beater.beat()
    await settle()
    assert heard == ["beat", "other work", "beat", "other work"]


async def beats(play: Play, number: int) -> int:
    """So many without any hint; how often the inbox has been renewed since the start."""
    for _ in range(number):
        play.played.replies["beat"] = [[pulse()]]
        await play.beater.beat()
    return play.played.link.renewed


@virtual
async def test_ears_are_doubted_after_so_many_beats_and_again_after_as_many() -> None:
    """A new subscription gets its time too; and hints are counted from the beat on, not from before."""
    mirror = Followed(1)
    mirror.news = True
    play = Play([], [mirror])
    assert await beats(play, DEAF_BEATS - 1) == 0
    assert await beats(play, 1) == 1
    assert play.hints == 0
    assert await beats(play, DEAF_BEATS - 1) == 1
    assert await beats(play, 1) == 2


@virtual
async def test_what_is_led_here_needs_no_hints() -> None:
    """Whoever follows nothing has nothing to miss."""
    play = Play([Led(1)], [])
    assert await beats(play, 3 * DEAF_BEATS) == 0


class Ending(Followed):
    """What the beat says of it ends it."""

    def beaten(self, pulse: object) -> bool:
        self.over = True
        return False


@pytest.mark.parametrize("lease_s", [4.0, 12.0])
def test_an_orphan_waits_for_the_guard_and_two_beats(lease_s: float) -> None:
    """So long its leader may need to say that it leads; one that has ended waits for nothing."""

    @virtual
    async def waits() -> None:
        mirror, over = Followed(1), Ending(65)
        play = Play([], [mirror, over])
        play.beater = Beater(play, play, lease_s)  # type: ignore[arg-type]
        mirror.orphan_since = over.orphan_since = asyncio.get_running_loop().time()

        async def beat() -> None:
            over.over = False
            play.played.replies["beat"] = [[pulse(), pulse()]]
            await play.beater.beat()

        await asyncio.sleep(guard_s(lease_s) + 2 * beat_s(lease_s) - 0.01)
        await beat()
        assert play.wanted == []
        await asyncio.sleep(0.02)
        await beat()
        assert play.wanted == [mirror]

    waits()
