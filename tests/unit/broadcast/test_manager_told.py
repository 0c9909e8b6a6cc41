"""What the manager tells when something ends: to other processes, to a drain, and to readers sent home."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broadcast.broadcast import Broadcast
from broadcast.elsewhere import Nowhere
from broadcast.guest import GuestClaim
from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from broadcast.sealing import Sealing
from chatbot.via import OPENAI
from runtime.errors import Draining, GatewayError, UpstreamTruncated
from tests.fakes.claims import TIMERS, Ticket
from tests.fakes.pipeline import pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual
from upstream.chunk import Chunk


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """The ends without an answer to keep, as other processes hear of them."""
    heard: list[tuple[str, str | None]] = []

    def ended(
        self: Nowhere, broadcast: Broadcast[Chunk], outcome: Outcome, error: GatewayError | None
    ) -> None:
        heard.append((outcome.value, None if error is None else error.code))

    monkeypatch.setattr(Nowhere, "ended", ended)
    return heard


@virtual
async def test_an_end_without_an_answer_is_told_with_its_error(told: list[Any]) -> None:
    """Whoever follows elsewhere gets the same one; a cancel has none."""
    async with pipeline() as pipe:
        pipe.model.by_hand |= {"q", "r"}
        failing, leaving = await pipe.ask("q", OPENAI), await pipe.ask("r", OPENAI)
        (await pipe.model.call("q")).fail(UpstreamTruncated())
        await until(lambda: failing.claim.ended is not None)
        assert told == [("failed", UpstreamTruncated.code)]
        await pipe.model.call("r")
        leaving.claim.cancel("test")
        await settle()
        assert told[1:] == [("cancelled", None)]


@virtual
async def test_an_answer_that_is_not_kept_is_told_as_well(told: list[Any]) -> None:
    """Complete, and yet with nothing in the cache to find: followers need its end."""
    async with pipeline(ttl_s=0.0) as pipe:
        assert (await pipe.ask_and_read("q")).outcome is Outcome.COMPLETED
        assert told == [("completed", None)]
    told.clear()
    async with pipeline() as pipe:
        assert (await pipe.ask_and_read("q")).outcome is Outcome.COMPLETED
        await settle()
        assert told == [], "its end goes with the answer"


@virtual
async def test_an_answer_that_breaks_its_own_sealing_is_found_by_nobody(
    told: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of ours: its readers have their end, followers too, the next one asks anew, and it is logged."""

    def breaks(self: Sealing, log: object, ttl_s: float | None) -> bool:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Sealing, "accepts", breaks)
    async with pipeline() as pipe:
        record = await pipe.ask("q", OPENAI)
        assert (await pipe.read(record)).outcome is Outcome.COMPLETED
        await settle()
        assert pipe.flights.find(record.broadcast.key or "") is None
        assert told == [("completed", None)]
        logged = [entry.exc_info for entry in caplog.records if entry.exc_info]
        assert [one[0] for one in logged] == [ZeroDivisionError]


async def resting(pipe: Any, idle_s: float) -> tuple[asyncio.Task[None], float]:
    task = asyncio.get_running_loop().create_task(pipe.broadcasts.rest.come(idle_s))
    await settle()
    assert not task.done()
    return task, asyncio.get_running_loop().time()


@virtual
async def test_a_drain_ends_with_the_last_mirror() -> None:
    """Its readers are served by this process, whoever makes it; no timer is needed to notice its end."""
    async with pipeline() as pipe:
        mirror = pipe.broadcasts.follow("k", 7, None, 0.0)
        task, _ = await resting(pipe, 0)
        mirror.conclude(Outcome.CANCELLED, None)
        await until(task.done)


@virtual
async def test_a_drain_notices_that_nobody_has_come_to_hear() -> None:
    """What is prepared while it drains, and has no reader, is not waited for beyond the patience."""
    async with pipeline(leaders=1) as pipe:
        pipe.hold("leaders")
        record = await pipe.ask("q")
        task, begun = await resting(pipe, 5.0)
        asyncio.get_running_loop().call_later(1.0, pipe.let_go)
        await task
        assert record.broadcast.phase is Phase.IDLE
        assert asyncio.get_running_loop().time() - begun == pytest.approx(5.0)
        record.claim.cancel("test")


@virtual
async def test_who_reads_here_what_was_admitted_elsewhere_is_sent_home() -> None:
    """This process ends, their request does not: no end is told, and they may resume with another."""
    async with pipeline() as pipe:
        mirror = pipe.broadcasts.follow("k", 7, None, 0.0)
        left: list[str] = []
        guest = GuestClaim(
            Ticket("g", 0.0), mirror, TIMERS, on_end=lambda claim: left.append("ended"),
            on_left=lambda: left.append("left"),
        )  # fmt: skip
        mirror.join(guest)
        guest.connect()
        pipe.broadcasts.end_all(Draining())
        assert left == ["left"]
        assert guest.ended is None
        guest.disconnect()
