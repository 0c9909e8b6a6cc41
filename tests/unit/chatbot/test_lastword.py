"""How a guest's request has ended its owner says; if it is silent, Redis is told first, then the reader."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from broadcast.claim import Claim
from broadcast.guest import GuestClaim
from broadcast.lifecycle import Phase
from broadcast.outcome import End, Outcome
from cache.errors import StoreDown
from cache.requests import Known
from chatbot import told
from chatbot.endings import Endings
from chatbot.lastword import HOLD_S, LastWord
from chatbot.record import Record
from runtime.supervisor import Supervisor
from tests.fakes.claims import TIMERS, Scene, Ticket
from tests.virtual_time import virtual

DONE = told.ended_as(End(Outcome.COMPLETED, 0.0, shared=True), 0)
CANCELLED = told.cancelled("cancelled by the client", 0)


class Parts:
    """Redis and the relay, played. `noted` is what Redis holds, `said` what was put there from here."""

    def __init__(self) -> None:
        self.up, self.hangs, self.known = True, False, True
        self.dead: set[str] = set()
        self.noted = b""
        self.said: list[tuple[bytes, str]] = []
        self.asked = 0

    def is_dead(self, proc: str) -> bool:
        return proc in self.dead

    async def recall(self, id: str, *, reading: bool = False) -> Known | None:
        assert reading, "else nobody would push its end to us"
        await self._answer()
        return Known(b"", "follower", 5, "owner", self.noted) if self.known else None

    async def ended(self, id: str, end: bytes, ttl_ms: int, epoch: int, *, how: str) -> bytes | None:
        await self._answer()
        self.said.append((end, how))
        self.noted = self.noted or end
        return self.noted

    async def _answer(self) -> None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.sleep(3600)


class Guest:
    """A record that another process admitted, on a mirror that streams."""

    def __init__(self, parts: Parts) -> None:
        self.scene = Scene()
        self.broadcast = self.scene.broadcast
        self.broadcast.remote = True
        self.broadcast.show(Phase.LIVE)
        self.supervisor = Supervisor()
        some = cast(Any, parts)
        self.endings = Endings(some, some, self.supervisor)
        self.words = LastWord(some, some, self.endings, self.supervisor, retention_ms=1000)
        self.record = cast(Record, _Record())
        self.record.claim = self.claim = GuestClaim(
            Ticket("g", 0.0),
            cast(Any, self.broadcast),
            TIMERS,
            on_end=_ends,
            on_left=lambda: None,
            on_held=lambda: self.words.awaited(self.record),
        )
        self.broadcast.join(self.claim)
        self.claim.connect()

    @property
    def outcome(self) -> Outcome | None:
        return None if self.claim.ended is None else self.claim.ended.outcome

    async def ends(self) -> float:
        """Its flight completes; the seconds until its request has ended here."""
        began = asyncio.get_running_loop().time()
        self.broadcast.conclude(Outcome.COMPLETED, None)
        assert self.claim.ended is None
        await self.words.settled(self.record)
        return asyncio.get_running_loop().time() - began


class _Record:
    """As much of a record as is asked for."""

    guest, owner, told = True, "owner", None
    ticket = Ticket("g", 0.0)
    claim: GuestClaim

    @property
    def broadcast(self) -> Any:
        return self.claim.broadcast


def _ends(claim: Claim) -> None:
    """Whoever counts ends is elsewhere."""


@virtual
async def test_its_owners_word_is_believed_at_once() -> None:
    """It has told it already: nobody waits, and nothing is said from here."""
    parts = Parts()
    parts.noted = DONE
    guest = Guest(parts)
    assert await guest.ends() < HOLD_S / 2
    assert (guest.outcome, parts.said) == (Outcome.COMPLETED, [])


@virtual
async def test_a_cancel_that_its_owner_took_is_how_it_ended() -> None:
    """Accepted before the flight ended: its reader here must not be told `done`."""
    parts = Parts()
    parts.noted = CANCELLED
    guest = Guest(parts)
    await guest.ends()
    assert (guest.outcome, parts.said) == (Outcome.CANCELLED, [])


@virtual
async def test_its_owners_word_that_comes_while_it_is_waited_for() -> None:
    """Pushed: let go then, and not after the whole wait."""
    parts = Parts()
    guest = Guest(parts)
    loop = asyncio.get_running_loop()
    loop.call_later(HOLD_S / 2, guest.endings.apply, guest.record, DONE)
    assert await guest.ends() == pytest.approx(HOLD_S / 2, abs=0.01)
    assert (guest.outcome, parts.said) == (Outcome.COMPLETED, [])


@virtual
async def test_an_owner_that_says_nothing_is_not_waited_for_long() -> None:
    """Then it is noted, so that the owner cannot take a cancel any more, and told after that."""
    parts = Parts()
    guest = Guest(parts)
    assert await guest.ends() == pytest.approx(HOLD_S, abs=0.02)
    assert (guest.outcome, parts.said) == (Outcome.COMPLETED, [(DONE, "p")])


@virtual
async def test_what_was_noted_before_it_could_be_said_from_here_is_told() -> None:
    """A cancel came between the look and the word: of two that race, all are told the same one."""
    parts = Parts()
    guest = Guest(parts)
    asyncio.get_running_loop().call_later(HOLD_S / 2, setattr, parts, "noted", CANCELLED)
    await guest.ends()
    assert (guest.outcome, [how for _, how in parts.said]) == (Outcome.CANCELLED, ["p"])


@virtual
async def test_a_dead_owner_is_not_waited_for() -> None:
    """It says nothing any more: whoever has read it does."""
    parts = Parts()
    parts.dead.add("owner")
    guest = Guest(parts)
    assert await guest.ends() < HOLD_S / 2
    assert (guest.outcome, parts.said) == (Outcome.COMPLETED, [(DONE, "p")])


@virtual
@pytest.mark.parametrize("trouble", ["away", "hangs", "forgotten"])
async def test_where_nobody_can_be_asked_what_is_known_here_has_to_do(trouble: str) -> None:
    """Redis is away, hangs, or does not know it (an OpenAI call that is over): its reader gets its end."""
    parts = Parts()
    parts.up, parts.hangs, parts.known = trouble != "away", trouble == "hangs", trouble != "forgotten"
    guest = Guest(parts)
    assert await guest.ends() < 2 * HOLD_S + 0.05
    assert (guest.outcome, parts.said) == (Outcome.COMPLETED, [])
    assert (parts.asked == 0) is (trouble == "away")


@virtual
async def test_a_redis_that_fails_meanwhile_holds_nobody() -> None:
    """The link broke while its owner was waited for."""

    class Breaking(Parts):
        async def ended(self, id: str, end: bytes, ttl_ms: int, epoch: int, *, how: str) -> bytes | None:
            raise StoreDown("gone")

    guest = Guest(Breaking())
    await guest.ends()
    assert guest.outcome is Outcome.COMPLETED


@virtual
async def test_what_nobody_wanted_here_may_go_on_there() -> None:
    """Its owner does not say that it has ended: its readers are let go without an end, and come back."""
    parts = Parts()
    guest = Guest(parts)
    guest.broadcast.abandon(expired=False)
    await asyncio.sleep(2 * HOLD_S)
    await guest.words.settled(guest.record)
    assert (guest.outcome, guest.claim.held, parts.said) == (None, None, [])


@virtual
async def test_that_it_expired_its_owner_says() -> None:
    """Here it looks abandoned; there is one end, and the owner knows which."""
    parts = Parts()
    parts.noted = told.ended_as(End(Outcome.CANCELLED, 0.0, shared=False, reason="abandoned"), 0).replace(
        b'"reason"', b'"shared":false,"reason"'
    )
    guest = Guest(parts)
    guest.broadcast.abandon(expired=False)
    await asyncio.sleep(HOLD_S / 2)
    assert guest.outcome is Outcome.CANCELLED
