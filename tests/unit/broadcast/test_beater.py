"""The beat: all is said again, its answer acted on, and evidence of lost pushes and lost memory noticed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcast.beater import DEAF_BEATS, STARVED_S, Beater, beat_s, guard_s
from broadcast.outcome import Outcome
from cache.errors import StoreDown, StoreError
from runtime.errors import LeaderLost
from runtime.supervisor import Supervisor
from tests.fakes.flights import FakeFlights, pulse
from tests.fakes.shared_redis import key_of
from tests.virtual_time import virtual

LEASE_S = 8.0


class Led:
    def __init__(self, number: int) -> None:
        self.key, self.epoch, self.registered = key_of(number), 5, True
        self.touched = 0
        self.beats: list[Any] = []

    def touch(self) -> None:
        self.touched += 1

    def beaten(self, pulse: Any, asked_at: float, me: str) -> None:
        assert me == "me"
        self.beats.append(pulse)


class Followed:
    """A mirror and its broadcast in one. `news`: it has progress that no hint told."""

    def __init__(self, number: int) -> None:
        self.key, self.epoch, self.stake, self.over = key_of(number), 7, "fi", False
        self.broadcast = self.log = self
        self.news = self.taking_over = False
        self.orphan_since: float | None = None
        self.beats: list[Any] = []
        self.ended: list[Any] = []

    def beaten(self, pulse: Any) -> bool:
        self.beats.append(pulse)
        return self.news

    def conclude(self, outcome: Outcome, error: Any) -> None:
        self.ended.append((outcome, error.code))


class Play:
    """The relay. `died` raises what `processes.beat` does."""

    def __init__(self, leads: list[Led], mirrors: list[Followed]) -> None:
        self.played = FakeFlights()
        self.flights = self.played
        self.leads = {lead.key: lead for lead in leads}
        self.mirrors = {mirror.key: mirror for mirror in mirrors}
        self.hints = 0
        self.beats = 0
        self.away = False
        self.wanted: list[Any] = []
        self.beater = Beater(self, self, LEASE_S)  # type: ignore[arg-type]

    async def beat(self) -> None:
        self.beats += 1
        if self.away:
            raise StoreDown("away")

    def still_wanted(self, mirror: Any) -> None:
        self.wanted.append(mirror)


def test_the_beat_leaves_room_for_lost_ones() -> None:
    """Two may be lost within a lease, and a leader gets one within the guard."""
    for lease_s in (0.8, 8.0, 15.0, 600.0):
        assert 3 * beat_s(lease_s) < lease_s
        assert guard_s(lease_s) > beat_s(lease_s)


@virtual
async def test_all_is_said_in_one_call_per_partition() -> None:
    """What is led under its epoch, what is followed with its stake, each answer to its own."""
    lead, near, far = Led(1), Followed(65), Followed(2)
    play = Play([lead], [near, far])
    play.played.replies["beat"] = [[pulse(events=1), pulse(events=2)], [pulse(events=3)]]
    await play.beater.beat()
    assert play.played.named("beat") == [
        (1, [(lead.key, "L5"), (near.key, "F7|fi")]),
        (2, [(far.key, "F7|fi")]),
    ]
    assert [one.beats[0].events for one in (lead, near, far)] == [1, 2, 3]


@virtual
async def test_what_redis_does_not_know_yet_is_stirred_and_not_said() -> None:
    """And what has ended here is no longer followed."""
    lead, mirror = Led(1), Followed(2)
    lead.registered, mirror.over = False, True
    play = Play([lead], [mirror])
    await play.beater.beat()
    assert play.played.calls == []
    assert lead.touched == 1


@virtual
async def test_a_beat_without_a_reply_is_an_error() -> None:
    """Its loop takes it for a Redis that is away; the group's tasks do not end in a group of errors."""
    play = Play([Led(1)], [])
    play.played.replies["beat"] = [StoreDown("away")]
    with pytest.raises(StoreError):
        await play.beater.beat()


@virtual
async def test_a_partition_that_is_away_costs_the_others_nothing() -> None:
    """In a cluster one primary may be gone: what the others said is acted on all the same."""
    lead, other = Led(1), Led(2)
    play = Play([lead, other], [])
    play.played.replies["beat"] = [StoreDown("away"), [pulse()]]
    with pytest.raises(StoreError):
        await play.beater.beat()
    assert len(other.beats) == 1


@virtual
async def test_progress_that_no_hint_told_renews_the_inbox() -> None:
    """Two beats in a row; one hint between, or no progress, and the count begins anew."""
    mirror = Followed(1)
    play = Play([], [mirror])

    async def beat(*, news: bool, hints: int) -> None:
        mirror.news, play.hints = news, hints
        play.played.replies["beat"] = [[pulse()]]
        await play.beater.beat()

    for news, hints in ((True, 0), (True, 1), (True, 0), (False, 0), (True, 0)):
        await beat(news=news, hints=hints)
    assert play.played.link.renewed == 0
    for _ in range(DEAF_BEATS - 1):
        await beat(news=True, hints=0)
    assert play.played.link.renewed == 1


@virtual
async def test_an_orphan_is_led_anew_after_the_guard() -> None:
    """Its leader had time to say that it leads; not while a takeover is under way."""
    mirror = Followed(1)
    play = Play([], [mirror])
    mirror.orphan_since = asyncio.get_running_loop().time()

    async def beat() -> None:
        play.played.replies["beat"] = [[pulse(epoch=0)]]
        await play.beater.beat()

    await asyncio.sleep(guard_s(LEASE_S) + 2 * beat_s(LEASE_S) - 0.1)
    await beat()
    assert play.wanted == []
    await asyncio.sleep(0.2)
    mirror.taking_over = True
    await beat()
    assert play.wanted == []
    mirror.taking_over = False
    await beat()
    assert play.wanted == [mirror]


@virtual
async def test_the_loop_beats_in_time_at_once_when_hurried_and_for_ever() -> None:
    """A Redis that is away ends no loop; who has followed in vain for long gets an honest end."""
    mirror = Followed(1)
    play = Play([], [mirror])
    play.played.replies["beat"] = [[pulse()] for _ in range(20)]
    supervisor = Supervisor()
    supervisor.own("beat", play.beater.run())
    await asyncio.sleep(10 * beat_s(LEASE_S) + 0.1)
    assert play.beats == 11
    play.beater.hurry()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert play.beats == 12
    play.away = True
    play.played.link.down_for = STARVED_S - 1
    await asyncio.sleep(3 * beat_s(LEASE_S))
    assert mirror.ended == []
    play.played.link.down_for = STARVED_S + 1
    await asyncio.sleep(1.1 * beat_s(LEASE_S))
    assert mirror.ended[0] == (Outcome.FAILED, LeaderLost.code)
    assert supervisor.healthy
    await supervisor.close()
