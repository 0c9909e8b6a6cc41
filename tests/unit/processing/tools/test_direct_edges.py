"""A direct answer from outside: the form of its chunks, its place in the queue, and what is told of it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest

from processing.preparer import DirectFailed
from processing.tools.direct import DirectAnswer
from processing.tools.results import Status
from runtime.errors import GatewayError
from tests.fakes.tools import ANN, Bench, Witness, call
from tests.fakes.turn import FakeTurn, prompt
from tests.fakes.turns import settle
from tests.unit.processing.tools.test_direct import Speaker, read
from tests.virtual_time import virtual
from upstream.chunk import Chunk


class Clerk(Witness):
    """An observer that also remembers times: what was waited at each start, what was run at each end."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []
        self.ran: list[float] = []

    def started(self, tool: str, waited_s: float) -> None:
        super().started(tool, waited_s)
        self.waited.append(waited_s)

    def ended(self, tool: str, status: Status, ran_s: float, *, shared: bool) -> None:
        super().ended(tool, status, ran_s, shared=shared)
        self.ran.append(ran_s)


def answer_of(speaker: Speaker, clerk: Clerk | None = None) -> tuple[Bench, DirectAnswer]:
    bench = Bench(speaker.tool, observer=clerk)
    return bench, DirectAnswer(bench.toolbox, speaker.tool, call("speak"), ANN, prompt())


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int | None]]:
    """The names of the events, with the number of the try where they have one."""
    fields = [vars(record) for record in caplog.records]
    return [(each["message"], each.get("try", each.get("tries"))) for each in fields]


def test_it_is_told_like_a_call_of_any_tool(caplog: pytest.LogCaptureFixture) -> None:
    """Row 81: invoked, started, completed, each once: a tool that streams is missing in no panel."""
    clerk = Clerk()

    @virtual
    async def speaks() -> None:
        _, answer = answer_of(Speaker("It ", "rains."), clerk)
        await read(answer)

    with caplog.at_level("INFO", "refrain.tools"):
        speaks()
    assert told(caplog) == [("tool.invoked", None), ("tool.started", 1), ("tool.completed", 1)]
    assert (clerk.begun, clerk.waited) == (["speak"], [0.0])
    assert (clerk.ends, clerk.ran) == ([("speak", "ok", False)], [2.0])


@pytest.mark.parametrize(
    ("pieces", "timeout_s", "status", "ran_s"),
    [
        ((ValueError(),), 9.0, "failed", 1.0),
        (("It ", ValueError()), 9.0, "failed", 2.0),
        (("It ", "rains."), 1.5, "timed_out", 1.5),
    ],
    ids=["before its first piece", "after it", "too long"],
)
def test_how_it_failed_is_told(
    pieces: tuple[str | Exception, ...], timeout_s: float, status: str, ran_s: float
) -> None:
    """Row 81: an alarm on tools that time out must not see a success, nor any other failure."""

    @virtual
    async def fails() -> None:
        clerk = Clerk()
        _, answer = answer_of(Speaker(*pieces, timeout_s=timeout_s), clerk)
        with pytest.raises(GatewayError):
            await read(answer)
        assert (clerk.ends, clerk.ran) == ([("speak", status, False)], [ran_s])

    fails()


@virtual
async def test_an_answer_that_was_not_read_to_its_end_is_no_success() -> None:
    """Its reader left: whatever the tool still had to say is unknown."""
    clerk = Clerk()
    _, answer = answer_of(Speaker("It ", "rains."), clerk)
    async with answer.stream(FakeTurn()) as batches:
        await anext(batches)
    assert clerk.ends == [("speak", "failed", False)]


@virtual
async def test_its_chunks_are_those_of_a_model() -> None:
    """Clients read id, object, created, model, index and the role: one answer has one id."""
    _, answer = answer_of(Speaker("It ", "rains."))
    chunks: list[Chunk] = []
    async with answer.stream(FakeTurn()) as batches:
        async for batch in batches:
            chunks += batch
    fields = [msgspec.json.decode(chunk.raw) for chunk in chunks]
    assert len({each["id"] for each in fields}) == 1
    assert fields[0]["id"].startswith("chatcmpl-")
    assert isinstance(fields[0]["created"], int)
    for each in fields:
        assert (each["object"], each["model"]) == ("chat.completion.chunk", "m")
        assert each["created"] == fields[0]["created"]
    assert fields.pop()["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert [each["choices"] for each in fields] == [
        [{"index": 0, "delta": delta, "finish_reason": reason}]
        for delta, reason in [
            ({"role": "assistant", "content": ""}, None),
            ({"content": "It "}, None),
            ({"content": "rains."}, None),
            ({}, "stop"),
        ]
    ]


@virtual
async def test_it_waits_for_its_slot_in_its_turn() -> None:
    """Row 66: no answer of a tool waits in the order of its asking where a better turn has come."""
    speaker = Speaker("It ", limit=1)
    bench, _ = answer_of(speaker)
    order: list[float] = []
    turns = {number: FakeTurn(number) for number in (0.0, 30.0, 10.0)}

    async def ask(turn: FakeTurn) -> None:
        await read_in(DirectAnswer(bench.toolbox, speaker.tool, call("speak"), ANN, prompt()), turn)
        order.append(turn.order)

    async with asyncio.TaskGroup() as group:
        for turn in turns.values():
            group.create_task(ask(turn))
            await settle()
        late, early = turns[30.0].admission, turns[10.0].admission
        assert late is not None
        assert early is not None
        assert (early.position, late.position) == (1, 2)
        turns[30.0].order = 5.0
        late.reorder()
        assert (late.position, early.position) == (1, 2)
    assert order == [0.0, 5.0, 10.0]
    assert [turn.admission for turn in turns.values()] == [None] * 3
    bench.assert_at_rest()


async def read_in(answer: DirectAnswer, turn: FakeTurn) -> None:
    async with answer.stream(turn) as batches:
        async for _ in batches:
            pass


@virtual
async def test_a_failure_says_which_tool_it_was() -> None:
    """The log of a fall-back is of use only with the tool's name; arguments may be of a user's text."""
    _, answer = answer_of(Speaker())
    async with AsyncExitStack() as stack:
        with pytest.raises(DirectFailed, match="speak gave no answer"):
            await stack.enter_async_context(answer.stream(FakeTurn()))
    assert repr(answer) == "<DirectAnswer speak>"
