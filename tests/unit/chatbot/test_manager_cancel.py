"""Cancel, double-cancel and errors at every await of every entry: the invariants hold after each.

An entry is what a client's own task runs: submit in each role, on both wires, and reading. What belongs
to the flight is disturbed from outside, at every turn of the loop, by all the ways a client has to leave.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count

import pytest

from broadcast.outcome import Outcome
from chatbot.record import Record
from chatbot.via import NATIVE, OPENAI, Via
from tests.cancellation import Moment, cancel_at_every_await, raise_at_every_await
from tests.fakes.invariants import assert_capacity
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle, turns
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable

#: Each role, and how often its task waits at least: for the look-up, a permit, and then for events.
SUSPENSIONS = {"leader": 4, "follower": 3, "waiting follower": 1, "hit": 1}
ROLES = list(SUSPENSIONS)
NAMES = (f"q{number}" for number in count())


class Entry:
    """Submits a question in one role, and reads it to its end; a new question each time."""

    def __init__(self, pipe: Pipeline, role: str, via: Via) -> None:
        self._pipe = pipe
        self._role = role
        self._via = via
        self._prompt = ""

    async def set_the_scene(self) -> None:
        """What has happened before the entry, so that it gets its role."""
        pipe, prompt = self._pipe, next(NAMES)
        self._prompt = prompt
        if self._role == "hit":
            await pipe.ask_and_read(prompt)
            await pipe.rest()
        elif self._role != "leader":
            await pipe.ask(prompt)
        if self._role == "waiting follower":
            pipe.hold("followers")
            asyncio.get_running_loop().call_later(0.5, pipe.let_go)
        pipe.model.errors[prompt] = [UpstreamUnavailable()]

    async def __call__(self) -> None:
        record = await self._pipe.ask(self._prompt, self._via)
        got = await self._pipe.read(record)
        assert got.outcome is Outcome.COMPLETED

    async def check(self, n: int) -> None:
        """The invariants hold, the next request finds everything in order, and the next scene is set."""
        await at_rest(self._pipe)
        await self.set_the_scene()


async def at_rest(pipe: Pipeline) -> None:
    """The invariants, and that the next request finds everything in order."""
    await pipe.rest()
    assert (await pipe.ask_and_read(next(NAMES))).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(("moment", "again"), [("waiting", False), ("granted", False), ("waiting", True)])
@pytest.mark.parametrize("via", [NATIVE, OPENAI], ids=["native", "openai"])
@pytest.mark.parametrize("role", ROLES)
def test_a_cancelled_entry_leaves_nothing_behind(role: str, via: Via, moment: Moment, again: bool) -> None:
    """A client's task that ends at any await, in any role, on either wire, with every kind of step."""

    @virtual
    async def cancelled_everywhere() -> None:
        async with pipeline(hook=True, planning=True, local_bytes=0) as pipe:
            entry = Entry(pipe, role, via)
            await entry.set_the_scene()
            suspensions = await cancel_at_every_await(entry, entry.check, moment=moment, again=again)
            assert suspensions >= SUSPENSIONS[role]
            await assert_capacity(pipe)

    cancelled_everywhere()


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError])
@pytest.mark.parametrize("via", [NATIVE, OPENAI], ids=["native", "openai"])
@pytest.mark.parametrize("role", ROLES)
def test_an_entry_that_breaks_leaves_nothing_behind(
    role: str, via: Via, error: Callable[[], Exception]
) -> None:
    """A reset or a timer of whoever calls takes the same way out as a cancellation."""

    @virtual
    async def breaking_everywhere() -> None:
        async with pipeline(hook=True, planning=True, local_bytes=0) as pipe:
            entry = Entry(pipe, role, via)
            await entry.set_the_scene()
            assert await raise_at_every_await(entry, entry.check, error) >= 1
            await assert_capacity(pipe)

    breaking_everywhere()


@virtual
async def test_a_cancelled_submit_does_not_consume_its_request_id() -> None:
    """Wherever the client left during its submit, the same request_id is admitted afterwards."""
    async with pipeline(local_bytes=0) as pipe:
        asked: list[str] = []

        async def submit() -> None:
            asked.append(next(NAMES))
            await pipe.ask(asked[-1], request_id=asked[-1])

        async def free_again(n: int) -> None:
            record = await pipe.ask(asked[-1], request_id=asked[-1])
            assert pipe.status(record) in ("ready", "waiting_slot")
            await pipe.rest()

        assert await cancel_at_every_await(submit, free_again) == 1


def cancel_by_id(pipe: Pipeline, record: Record | None, reading: asyncio.Task[object]) -> None:
    if record is not None and record.claim.ended is None:
        pipe.cancel(record)


def hang_up(pipe: Pipeline, record: Record | None, reading: asyncio.Task[object]) -> None:
    reading.cancel()


def cancel_and_hang_up(pipe: Pipeline, record: Record | None, reading: asyncio.Task[object]) -> None:
    hang_up(pipe, record, reading)
    cancel_by_id(pipe, record, reading)


Way = Callable[[Pipeline, Record | None, asyncio.Task[object]], None]


@pytest.mark.parametrize("via", [NATIVE, OPENAI], ids=["native", "openai"])
@pytest.mark.parametrize("way", [cancel_by_id, hang_up, cancel_and_hang_up])
def test_a_flight_that_loses_its_last_client_at_any_turn_ends(way: Way, via: Via) -> None:
    """Preparation by hook and plan, slot, call, retry, stream, seal: whatever it does, it stops."""

    @virtual
    async def leaving_everywhere() -> None:
        async with pipeline(leaders=1, streams=1, hook=True, planning=True, jitter=0) as pipe:
            number, finished = 0, False
            while not finished:
                prompt = next(NAMES)
                pipe.model.errors[prompt] = [UpstreamUnavailable()]
                async with asyncio.TaskGroup() as group:
                    reading: asyncio.Task[object] = group.create_task(pipe.ask_and_read(prompt, via))
                    await turns(number)
                    finished = reading.done()
                    way(pipe, pipe.record_of(prompt), reading)
                await at_rest(pipe)
                number += 1
            assert number > 10
            assert len(pipe.model.asked(prompt)) == 2, "the last one was not disturbed and saw its retry"

    leaving_everywhere()


@virtual
async def test_a_flight_goes_on_for_a_follower_whenever_its_leader_leaves() -> None:
    """Rows 34 and 36: at every turn of the loop, the follower gets the whole answer of one call."""
    async with pipeline(leaders=1, streams=1, hook=True, planning=True) as pipe:
        for number in range(25):
            prompt = next(NAMES)
            leader = await pipe.ask(prompt)
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(pipe.read(leader))
                following = group.create_task(pipe.ask_and_read(prompt))
                await turns(number)
                cancel_and_hang_up(pipe, leader, reading)
            (call,) = pipe.model.asked(prompt)
            assert following.result().text == call.said
            await at_rest(pipe)


@virtual
async def test_a_cancel_is_over_at_once() -> None:
    """Within 250 ms: on virtual time within no time at all, in every wait, and nothing is consumed later."""
    async with pipeline(leaders=1, streams=1, hook=True) as pipe:
        for names in (["leaders"], ["llm_streams"], []):
            pipe.hold(*names)
            admitted = [stage.stats().admitted for stage in pipe.stages]
            if not names:
                pipe.hook.gate.clear()
            record = await pipe.ask(next(NAMES))
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(pipe.read(record))
                await settle()
                pipe.cancel(record)
                await turns(5)
                assert reading.done()
                assert pipe.broadcasts.running == {}
                assert len(pipe.supervisor) == pipe.loops
            assert reading.result().outcome is Outcome.CANCELLED
            pipe.hook.gate.set()
            pipe.let_go()
            await settle()
            if names == ["leaders"]:
                assert [stage.stats().admitted for stage in pipe.stages] == admitted
        assert pipe.model.calls == []
