"""The simulator's timing, on virtual time: exact, and over at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.cancellation import cancel_at_every_await
from tests.fakes.simulator_caller import Caller, Sim, chat_body
from tests.virtual_time import virtual

_CHAT = "/v1/chat/completions"


class _Clocked(Caller):
    """Notes when how many token events arrived; takes each write in `slow` seconds."""

    def __init__(self, body: bytes, slow: float = 0.0) -> None:
        super().__init__("POST", _CHAT, body)
        self.arrivals: list[tuple[float, int]] = []
        self._slow = slow
        self._start = asyncio.get_running_loop().time()

    async def send(self, message: Any) -> None:
        tokens = message.get("body", b"").count(b'"delta":{"content"')
        if tokens:
            self.arrivals.append((asyncio.get_running_loop().time() - self._start, tokens))
            await asyncio.sleep(self._slow)
        await super().send(message)


async def _stream(sim: Sim, slow: float = 0.0) -> list[tuple[float, int]]:
    caller = _Clocked(b'{"stream": true, "messages": [{"role": "user", "content": "hi"}]}', slow)
    await sim.app(caller.scope, caller.receive, caller.send)
    return caller.arrivals


def _elapsed(since: float) -> float:
    return asyncio.get_running_loop().time() - since


@virtual
async def test_tokens_come_at_their_due_times() -> None:
    """Token i is due at ttft + i / tps."""
    arrivals = await _stream(Sim(ttft=2, tps=4, tokens=4))
    assert [count for _, count in arrivals] == [1] * 4
    assert [at for at, _ in arrivals] == pytest.approx([2 + i / 4 for i in range(4)])


@virtual
async def test_a_slow_reader_gets_what_became_due_in_one_write() -> None:
    """Each token is still an event of its own, and the schedule does not slip."""
    arrivals = await _stream(Sim(ttft=1, tps=10, tokens=9), slow=0.35)
    assert [count for _, count in arrivals] == [1, 3, 4, 1]
    assert [at for at, _ in arrivals] == pytest.approx([1.0, 1.35, 1.7, 2.05])


@virtual
async def test_a_whole_answer_takes_as_long_as_its_stream() -> None:
    """Not streaming hides the tokens, not the time they take."""
    start = asyncio.get_running_loop().time()
    await Sim(ttft=2, tps=4, tokens=5).chat("hi", stream=False)
    assert _elapsed(start) == pytest.approx(3.0)


@virtual
async def test_a_directive_sets_the_pace_of_its_own_prompt() -> None:
    """Other prompts keep the simulator's."""
    sim, start = Sim(), asyncio.get_running_loop().time()
    await sim.chat("[[sim ttft=60 tps=1 tokens=3]]")
    assert _elapsed(start) == pytest.approx(62.0)


@virtual
async def test_an_empty_answer_takes_the_time_to_its_first_token() -> None:
    """Deciding to say nothing is no faster."""
    start = asyncio.get_running_loop().time()
    await Sim(ttft=5).chat("[[sim empty=1]]")
    assert _elapsed(start) == pytest.approx(5.0)


@virtual
async def test_preparation_takes_its_delay_and_then_fails() -> None:
    """A failing hook is slow too; a prompt's own delay goes before the setting."""
    sim = Sim(prepare_delay=5, prepare_fail_rate=1)
    start = asyncio.get_running_loop().time()
    assert (await sim.call("POST", "/prepare", chat_body("hi"))).status == 503
    assert _elapsed(start) == pytest.approx(5.0)
    await sim.call("POST", "/prepare", chat_body("[[sim prepare_delay=2]]"))
    assert _elapsed(start) == pytest.approx(7.0)


@virtual
async def test_a_server_that_stops_leaves_no_call_in_flight() -> None:
    """Cancelled at any await, a call ends exactly once."""
    sim = Sim(ttft=1, tps=10, tokens=3)
    meter = sim.app.stats.chat

    def ended_once(n: int) -> None:
        counts = meter.snapshot()
        assert counts["in_flight"] == 0
        assert counts["calls"] == counts["completed"] + counts["aborted"]

    assert await cancel_at_every_await(lambda: _stream(sim), ended_once) > 5
