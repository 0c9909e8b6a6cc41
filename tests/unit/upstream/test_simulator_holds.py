"""Calls that wait: holds, limits, and clients that leave."""

from __future__ import annotations

import pytest

from tests.fakes.simulator_caller import Caller, Sim, chat_body

pytestmark = pytest.mark.anyio

_CHAT = "/v1/chat/completions"


async def _until_in_flight(sim: Sim, count: int) -> None:
    """Wait until the simulator serves so many calls; each look lets the loop turn."""
    for _ in range(100):
        if (await sim.stats())["in_flight"] == count:
            return
    raise AssertionError(f"never {count} in flight: {await sim.stats()}")


def _release(name: str) -> tuple[str, str]:
    return "POST", f"/release?name={name}"


async def test_a_held_call_sends_no_token_until_it_is_released() -> None:
    """Its headers are out, it is counted, and then it waits for a word."""
    sim = Sim(tokens=3)
    async with sim.open("POST", _CHAT, chat_body("[[sim hold=gate]]")) as caller:
        await caller.until(lambda: caller.status == 200)
        await _until_in_flight(sim, 1)
        assert (await sim.stats())["holding"] == {"gate": 1}
        assert not caller.writes
        assert (await sim.call(*_release("gate"))).json == {"name": "gate", "released": 1}
        await caller.finished()
    assert len(caller.deltas()) == 3
    assert (await sim.stats())["holding"] == {}


async def test_a_call_can_be_held_in_the_middle() -> None:
    """So many tokens, then nothing until the release."""
    sim = Sim(tokens=6)
    async with sim.open("POST", _CHAT, chat_body("[[sim hold=mid hold_after=4]]")) as caller:
        await caller.until(lambda: len(caller.deltas()) == 4)
        await sim.call(*_release("mid"))
        await caller.finished()
    assert len(caller.deltas()) == 6
    assert caller.finish_reasons == ["stop"]


async def test_an_early_release_is_not_lost() -> None:
    """A name stays released, so test and call may come in either order."""
    sim = Sim()
    await sim.call(*_release("early"))
    assert (await sim.chat("[[sim hold=early]]", stream=False)).status == 200


async def test_a_scripted_error_waits_for_its_hold() -> None:
    """A test can gather followers before their leader's call fails."""
    sim = Sim()
    async with sim.open("POST", _CHAT, chat_body("[[sim status=503 hold=bad]]")) as caller:
        await _until_in_flight(sim, 1)
        assert caller.status == 0
        await sim.call(*_release("bad"))
        await caller.finished()
    assert caller.status == 503


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "directive",
    ["hang=1", "hold=never", "hold=never hold_after=2", "stall=0", "stall=3", "ttft=3600", "tps=0.001"],
)
async def test_a_client_that_leaves_is_noticed_at_once(directive: str, stream: bool) -> None:
    """Hanging, holding, stalling or pacing, the call ends as aborted and nothing stays behind."""
    sim = Sim()
    async with sim.open("POST", _CHAT, chat_body(f"[[sim {directive}]]", stream=stream)) as caller:
        await _until_in_flight(sim, 1)
        caller.leave()
        await caller.finished()
    stats = await sim.stats()
    assert (stats["in_flight"], stats["aborted"], stats["completed"], stats["holding"]) == (0, 1, 0, {})
    assert not caller.ended


async def test_a_client_that_leaves_while_asking_counts_as_nothing() -> None:
    """A body that never arrived was no call."""
    sim = Sim()
    caller = Caller("POST", _CHAT, b"{")
    message = await caller.receive()
    incoming = iter([{**message, "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> dict[str, object]:
        return next(incoming)

    await sim.app(caller.scope, receive, caller.send)
    assert caller.status == 0
    assert (await sim.stats())["calls"] == 0


async def test_beyond_its_streams_it_limits_the_rate() -> None:
    """The call over the limit is told when to come back; a place given back is usable at once."""
    sim = Sim(max_streams=1, retry_after=3)
    async with sim.open("POST", _CHAT, chat_body("[[sim hold=one]]")) as caller:
        await _until_in_flight(sim, 1)
        refused = await sim.chat("hi")
        assert (refused.status, refused.headers[b"retry-after"]) == (429, b"3")
        await sim.call(*_release("one"))
        await caller.finished()
    assert (await sim.chat("hi")).status == 200
    stats = await sim.stats()
    assert (stats["peak"], stats["calls"], stats["rate_limited"], stats["completed"]) == (1, 3, 1, 2)


async def test_a_reset_keeps_what_is_in_flight() -> None:
    """Counts start again, but a running call is still running."""
    sim = Sim()
    async with sim.open("POST", _CHAT, chat_body("[[sim hang=1]]")) as caller:
        await _until_in_flight(sim, 1)
        await sim.call("POST", "/reset")
        stats = await sim.stats()
        assert (stats["calls"], stats["in_flight"], stats["peak"]) == (0, 1, 1)
        caller.leave()
        await caller.finished()
    assert (await sim.call("POST", "/reset")).json["peak"] == 0
