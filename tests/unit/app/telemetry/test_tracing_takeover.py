"""Flights that begin anew, or that another process goes on with."""

from __future__ import annotations

from broadcast.broadcast import Broadcast
from broadcast.lifecycle import Phase
from broadcast.log import Log
from cache.keys import SharingKeys
from chatbot.ticket import Ticket
from chatbot.via import OPENAI
from tests.fakes.front import Front
from tests.fakes.pipeline import question
from tests.fakes.tracing import Traces, identity, links, traced_front
from tests.fakes.turns import settle
from tests.virtual_time import virtual
from upstream.chunk import Chunk

DEAD = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


async def follower_of(gate: Front, traces: Traces) -> Broadcast[Chunk]:
    """A mirror of a flight that another process makes, and a traced request that follows it."""
    body = question("q").body
    key = SharingKeys(share_globally=False, normalize_loosely=False, fingerprint=("test",)).key("t", body)
    mirror = gate.pipe.broadcasts.follow(key, 7, body, 0.0)
    mirror.traceparent = f"00-{DEAD[0]}-{DEAD[1]}-01"
    request = traces.spans.begin("the follower", 1000.0)
    ticket = Ticket.issue("t", traceparent=request.traceparent)
    gate.pipe.prompts[ticket.id] = "q"
    await gate.manager.submit(question("q"), ticket, OPENAI)
    return mirror


@virtual
async def test_a_flight_that_was_taken_over_links_to_the_one_before() -> None:
    """Row 94: its maker died. The new one is below who asked for it, and its link leads to the old one."""
    async with traced_front() as (gate, traces):
        mirror = await follower_of(gate, traces)
        (claim,) = mirror.claims.values()
        gate.pipe.broadcasts.take_over(mirror, 8, question("q").body)
        await settle()
        assert mirror.phase is Phase.SEALED
        flight = traces.one("flight")
        assert links(flight) == {"before": DEAD}
        assert isinstance(claim.ticket, Ticket)
        assert identity(flight)[0] == claim.ticket.traceparent.split("-")[1]
        assert tuple(mirror.traceparent.split("-")[1:3]) == identity(flight)


@virtual
async def test_a_flight_that_is_let_go_ends_here() -> None:
    """What another process makes from now on is in its own spans; ours must not stay open for ever."""
    async with traced_front(leaders=1, hook=True) as (gate, traces):
        gate.pipe.hook.gate.clear()
        led = gate.record((await gate.submit("q"))["id"]).broadcast
        await settle()
        log = Log[Chunk](led.log.epoch + 1, 1000)
        gate.pipe.broadcasts.promote(led, log)
        gate.pipe.hook.gate.set()
        flight = traces.one("flight")
        assert (flight.attributes or {})["refrain.outcome"] == "handed_over"
        assert traces.below(flight) == ["wait leaders", "prepare"]
        assert led.traceparent == ""
