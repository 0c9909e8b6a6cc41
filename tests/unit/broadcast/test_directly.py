"""Answers that need no call of the model, in the whole pipeline below the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from broadcast.lifecycle import Phase
from broadcast.outcome import Outcome
from chatbot.via import NATIVE
from processing.account import account_of, preface
from processing.preparer import DirectFailed, Preparer, Prompt, Turn, with_messages
from runtime.errors import GatewayError, StreamTimeout
from tests.fakes.model import delta, finish
from tests.fakes.pipeline import Pipeline, pipeline
from tests.fakes.turns import settle, until
from tests.virtual_time import virtual
from upstream.chunk import Chunk

SECOND = 1.0


class Played:
    """An answer in pieces, one a second. The first may be the failure to give any."""

    def __init__(self, otherwise: Prompt, *pieces: list[Chunk] | Exception) -> None:
        self.otherwise = otherwise
        self.pieces = pieces
        self.open = self.opened = 0

    @asynccontextmanager
    async def stream(self, turn: Turn) -> AsyncIterator[AsyncIterator[list[Chunk]]]:
        self.open += 1
        self.opened += 1
        try:
            await asyncio.sleep(SECOND)
            if self.pieces and isinstance(self.pieces[0], DirectFailed):
                raise self.pieces[0]
            yield self._pieces()
        finally:
            self.open -= 1

    async def _pieces(self) -> AsyncIterator[list[Chunk]]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
            await asyncio.sleep(SECOND)


class Directing:
    """The step: every prompt gets an answer of its own."""

    name = "directing"

    def __init__(self, *pieces: list[Chunk] | Exception) -> None:
        self.pieces = pieces
        self.made: list[Played] = []

    def applies(self, body: Mapping[str, Any]) -> bool:
        return True

    async def run(self, prompt: Prompt) -> Prompt:
        self.made.append(Played(replace(prompt, store=False), *self.pieces))
        return replace(prompt, direct=self.made[-1], preface=(preface("m", {"tools": ["speak"]}),))

    @property
    def open(self) -> int:
        return sum(one.open for one in self.made)


@asynccontextmanager
async def directed(step: Directing, **limits: Any) -> AsyncIterator[Pipeline]:
    async with pipeline(**limits) as pipe:
        pipe.broadcasts._preparer = Preparer([step])
        pipe.spoken.append("It rains.")
        yield pipe
    assert step.open == 0


@virtual
async def test_a_direct_answer_takes_no_permit_of_the_model() -> None:
    """Row 72: it is streamed while every LLM stream is taken, kept, shared, and says how it came."""
    step = Directing([delta("It ")], [delta("rains."), *finish()])
    async with directed(step, streams=1) as pipe:
        pipe.hold("llm_streams")
        first, second = await pipe.ask("q"), await pipe.ask("q")
        async with asyncio.TaskGroup() as group:
            readings = [group.create_task(pipe.read(record)) for record in (first, second)]
        assert [each.result().text for each in readings] == ["It rains."] * 2
        assert account_of(first.chunks()) == {"tools": ["speak"]}
        assert (len(step.made), pipe.model.calls) == (1, [])
        await settle()
        again = await pipe.ask("q")
        assert (again.role, again.snapshot()["preparation"]) == ("cached", {"tools": ["speak"]})
        pipe.let_go()


@virtual
async def test_one_that_gives_nothing_goes_the_usual_way() -> None:
    """Nobody has seen anything of it; the answer out of its failure is not kept."""
    async with directed(Directing(DirectFailed("nothing came"))) as pipe:
        reading = await pipe.ask_and_read("q")
        assert (reading.outcome, reading.text) == (Outcome.COMPLETED, "1: answer to q")
        assert pipe.model.peak == {"llm_streams": 1, "llm_calls": 0}
        await settle()
        assert (await pipe.ask_and_read("q")).text == "2: answer to q"


@pytest.mark.parametrize("error", [StreamTimeout(), ZeroDivisionError()])
def test_one_that_breaks_off_ends_as_failed(error: Exception) -> None:
    """What was shown stays, nothing is kept and no model is asked: never a splice of two answers."""

    @virtual
    async def broken() -> None:
        async with directed(Directing([delta("It ")], error)) as pipe:
            reading = await pipe.ask_and_read("q")
            assert (reading.outcome, reading.text) == (Outcome.FAILED, "It ")
            assert reading.ended is not None
            assert isinstance(reading.ended.error, GatewayError)
            assert pipe.model.calls == []
            await settle()
            assert (await pipe.ask("q")).role == "leader"

    broken()


@virtual
async def test_one_that_nobody_reads_is_not_begun() -> None:
    """It starts with its first reader, and ends with its last."""
    step = Directing([delta("It ")], [delta("rains."), *finish()])
    async with directed(step) as pipe:
        record = await pipe.ask("q", NATIVE)
        await settle()
        assert (pipe.status(record), step.made[0].opened) == ("ready", 0)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(pipe.read(record))
            await until(lambda: step.open)
            assert pipe.status(record) == "waiting_slot"
            pipe.cancel(record)
            await settle()
            assert step.open == 0
        assert reading.result().outcome is Outcome.CANCELLED


@virtual
async def test_a_deserted_one_is_begun_again_for_the_next_reader() -> None:
    """Left before its first piece: it is idle again, and its work is ended."""
    step = Directing([delta("It rains."), *finish()])
    async with directed(step) as pipe:
        record = await pipe.ask("q", NATIVE)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(pipe.read(record))
            await until(lambda: step.open)
            first.cancel()
        await settle()
        assert (step.open, record.broadcast.phase) == (0, Phase.IDLE)
        assert (await pipe.read(record)).text == "It rains."
        assert step.made[0].opened == 2


@virtual
async def test_a_failed_one_is_not_tried_again_for_the_next_reader() -> None:
    """The usual way is gone from then on, whoever leaves and comes back."""
    step = Directing(DirectFailed("nothing came"))
    async with directed(step, streams=1) as pipe:
        pipe.hold("llm_streams")
        record = await pipe.ask("q", NATIVE)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(pipe.read(record))
            await asyncio.sleep(2 * SECOND)
            assert pipe.llm_streams.stats().waiting == 1
            first.cancel()
        await settle()
        assert pipe.llm_streams.stats().waiting == 0
        pipe.let_go()
        assert (await pipe.read(record)).text == "1: answer to q"
        assert step.made[0].opened == 1


@virtual
async def test_what_preparation_found_holds_from_then_on() -> None:
    """Row 12: a reading that holds for 60 s is not told for 90 because its answer took 30 to be streamed."""

    class Bounding(Directing):
        async def run(self, prompt: Prompt) -> Prompt:
            return replace(prompt, ttl_s=60.0)

    async with directed(Bounding()) as pipe:
        pipe.model.by_hand.add("q")
        record = await pipe.ask("q", NATIVE)
        async with asyncio.TaskGroup() as group:
            group.create_task(pipe.read(record))
            call = await pipe.model.call("q")
            await asyncio.sleep(30)
            call.say("It rains.")
            call.complete()
        await settle()
        again = await pipe.ask("q")
        assert again.role == "cached"
        assert again.hit_ttl_s == pytest.approx(30, abs=1)


@pytest.mark.parametrize(("room", "outcome"), [(0, Outcome.COMPLETED), (-1, Outcome.FAILED)])
def test_one_that_does_not_end_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, room: int, outcome: Outcome
) -> None:
    """A tool that puts out without end would fill the process: it has the bound of a model's answers."""
    pieces = ([delta("It ")], [delta("rains."), *finish()])

    @virtual
    async def bounded() -> None:
        async with directed(Directing(*pieces)) as pipe:
            whole = await pipe.ask("q")
            await pipe.read(whole)
            monkeypatch.setattr("broadcast.directly.RUNAWAY_BYTES", whole.broadcast.log.size + room)
            reading = await pipe.ask_and_read("r")
            assert reading.ended is not None
            code = reading.ended.error and reading.ended.error.code
            assert (reading.outcome, code) == (outcome, "upstream_bad_response" if room else None)
            assert pipe.model.calls == []

    bounded()


@virtual
async def test_one_that_gives_nothing_leaves_the_clients_question() -> None:
    """Whoever has to prepare it anew begins with what the client has asked, not with what tools have said."""

    class Said(Directing):
        async def run(self, prompt: Prompt) -> Prompt:
            said = [{"role": "system", "content": "a tool has failed"}, *prompt.body["messages"]]
            return await super().run(with_messages(prompt, said))

    async with directed(Said(DirectFailed("nothing came")), streams=1) as pipe:
        pipe.hold("llm_streams")
        record = await pipe.ask("q", NATIVE)
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(pipe.read(record))
            await asyncio.sleep(2 * SECOND)
            going_on = pipe.broadcasts.running[record.broadcast]
            assert going_on is not None
            assert len(going_on.body["messages"]) == 2
            assert going_on.question["messages"] == [{"role": "user", "content": "q"}]
            pipe.let_go()
        assert reading.result().text == "1: answer to q"
