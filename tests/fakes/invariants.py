"""The invariants of the pipeline at rest, I1 to I4 and I7 of its design. Asserted after every test of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from admission import Stage
from tests.fakes.turns import settle

if TYPE_CHECKING:
    from tests.fakes.pipeline import Pipeline


def assert_at_rest(pipe: Pipeline) -> None:
    """Nothing is held, nothing runs, every request ended once, and nobody got another call's words."""
    for stage in pipe.stages:
        assert_free(stage)
    assert_nothing_runs(pipe)
    assert_every_request_ended_once(pipe)
    assert_every_text_is_of_one_call(pipe)


def assert_free(stage: Stage) -> None:
    """I3: all permits are back, and the books say so."""
    stats = stage.stats()
    assert (stats.in_use, stats.waiting) == (0, 0), f"{stage!r} is not free"
    assert stats.admitted == stats.released, f"{stage!r}: {stats.admitted} in, {stats.released} out"


def assert_nothing_runs(pipe: Pipeline) -> None:
    """I4: no task, no flight, no broadcast, no call of the model, no look-up."""
    assert len(pipe.supervisor) == pipe.loops, f"tasks are left: {pipe.supervisor!r}"
    assert pipe.broadcasts.running == {}, f"broadcasts are left: {pipe.broadcasts.running}"
    assert "0 pending" in repr(pipe.broadcasts), f"{pipe.broadcasts!r} after the last has ended"
    assert len(pipe.flights) == 0, f"{pipe.flights!r}"
    assert pipe.model.in_flight == {"llm_streams": 0, "llm_calls": 0}
    assert not any(call.open for call in pipe.model.calls)
    assert pipe.hook.inside == 0
    lane = pipe.lane.stats()
    assert (lane.busy, lane.waiting) == (0, 0)
    assert lane.admitted == lane.released


def assert_every_request_ended_once(pipe: Pipeline) -> None:
    """I2: exactly one end for each, and nobody is still counted as connected or interested."""
    for record in pipe.records.made:
        assert pipe.witness.ends[record.ticket.id] == 1, f"{record!r} has no single end"
        assert record.claim.ended is not None
        assert not record.claim.interested
        # An OpenAI request that has ended keeps its one: its connection is its task, which is gone.
        assert record.claim.connections == 0 or not record.native, f"{record!r} is still connected"
        assert not record.broadcast.readers
    assert len(pipe.witness.ends) == len(pipe.records.made)


def assert_every_text_is_of_one_call(pipe: Pipeline) -> None:
    """I1: a text is a prefix of what one call said about the same question."""
    for record in pipe.records.made:
        text = "".join(chunk.text for chunk in record.chunks())
        prompt = pipe.prompts[record.ticket.id]
        said = [call.said for call in pipe.model.asked(prompt)] + pipe.spoken
        assert text == "" or any(one.startswith(text) for one in said), f"{text!r} is of none of {said}"


async def assert_capacity(pipe: Pipeline, extra: int = 10) -> None:
    """I3 from outside: of capacity + `extra` requests exactly `capacity` are at the model at a time."""
    capacity = pipe.llm_streams.capacity
    prompts = [f"probe {number}" for number in range(capacity + extra)]
    pipe.model.by_hand.update(prompts)
    async with asyncio.TaskGroup() as group:
        for prompt in prompts:
            group.create_task(pipe.ask_and_read(prompt))
        for answered in range(len(prompts)):
            await settle()
            at_once = min(capacity, len(prompts) - answered)
            assert pipe.model.in_flight["llm_streams"] == at_once
            next(call for call in pipe.model.calls if call.open).complete()
