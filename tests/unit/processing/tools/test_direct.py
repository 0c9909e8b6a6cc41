"""A tool that gives the answer itself: what is streamed, and what happens when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from processing.account import account_of
from processing.preparer import DirectFailed, Prompt
from processing.tools import Tool, tool
from processing.tools.direct import DirectAnswer
from runtime.errors import GatewayError
from tests.cancellation import Moment, cancel_at_every_await
from tests.fakes.tools import Played, Scene, chosen, result
from tests.fakes.turn import FakeTurn
from tests.fakes.turns import settle
from tests.virtual_time import virtual


class Speaker:
    """A tool that streams `pieces`, one a second, and fails where one is an error."""

    def __init__(self, *pieces: str | Exception, **options: Any) -> None:
        self.played = Played()
        self.pieces = pieces
        options = {"time_bound": 60.0, "direct_stream": True, **options}
        self.tool = tool(self.speak, name="speak", **options)

    async def speak(self, about: str = "it") -> AsyncIterator[str]:
        """Speaks."""
        async with self.played.counted():
            for piece in self.pieces:
                await asyncio.sleep(1)
                if isinstance(piece, Exception):
                    raise piece
                yield piece


async def direct_of(speaker: Speaker, *more: Tool, arguments: dict[str, Any] | None = None) -> Prompt:
    reply = chosen(("speak", arguments or {}))
    return await Scene(reply, tools=(speaker.tool, *more)).run()


def direct_in(prompt: Prompt) -> DirectAnswer:
    assert isinstance(prompt.direct, DirectAnswer)
    return prompt.direct


async def read(answer: DirectAnswer, seen: list[str] | None = None) -> tuple[list[str], str | None]:
    """All its pieces, also into `seen`, and how it ended."""
    texts = [] if seen is None else seen
    reason = None
    async with answer.stream(FakeTurn(0)) as batches:
        async for batch in batches:
            texts += [chunk.text for chunk in batch if not chunk.usage_only]
            reason = next((chunk.finish_reason for chunk in batch if chunk.finish_reason), None)
    return texts, reason


@virtual
async def test_a_tool_that_is_called_alone_gives_the_answer_itself() -> None:
    """Row 72: its pieces are the answer, no further call of the model, and nothing runs before it is read."""
    speaker = Speaker("It ", "", "rains.")
    prepared = await direct_of(speaker)
    assert isinstance(prepared.direct, DirectAnswer)
    assert speaker.played.begun == 0
    assert (prepared.store, prepared.ttl_s) == (True, 60)
    assert account_of(prepared.preface) == {"tools": [{"tool": "speak", "status": "streams"}]}
    assert await read(direct_in(prepared)) == (["", "It ", "rains.", ""], "stop")
    assert (speaker.played.begun, speaker.played.cleaned) == (1, 1)


@virtual
async def test_with_company_it_is_a_tool_like_any_other() -> None:
    """Two tools cannot both be the answer."""
    speaker, played = Speaker("It ", "rains."), Played()
    scene = Scene(chosen(("speak", {}), ("sleep", {})), tools=(speaker.tool, played.sleeper()))
    prepared = await scene.run()
    assert not isinstance(prepared.direct, DirectAnswer)
    assert prepared.body["messages"][2:] == [result("call-0", "It rains."), result("call-1", "done")]


@pytest.mark.parametrize(
    ("pieces", "options", "arguments"),
    [
        ((ValueError("secret"),), {}, {}),
        ((), {}, {}),
        (("",), {}, {}),
        (("late",), {"timeout_s": 0.5}, {}),
        (("fine",), {}, {"about": 3}),
    ],
)
def test_before_its_first_piece_the_usual_way_is_open(
    pieces: tuple[str | Exception, ...], options: dict[str, Any], arguments: dict[str, Any]
) -> None:
    """Row 72: it fails, says nothing, is late or cannot be called: the prompt to go on with says so."""

    @virtual
    async def falls_back() -> None:
        speaker = Speaker(*pieces, **options)
        prepared = await direct_of(speaker, arguments=arguments)
        assert isinstance(prepared.direct, DirectAnswer)
        with pytest.raises(DirectFailed) as failed:
            await read(direct_in(prepared))
        assert "secret" not in str(failed.value)
        otherwise = prepared.direct.otherwise
        assert not otherwise.store
        assert otherwise.body["messages"][2:] == [result("call-0", "[speak failed: it gave no answer]")]
        assert speaker.played.begun == speaker.played.cleaned

    falls_back()


@pytest.mark.parametrize(
    ("second", "options", "code"),
    [
        (ValueError("secret"), {}, "upstream_truncated"),
        ("late", {"timeout_s": 1.5}, "stream_timeout"),
    ],
)
def test_after_its_first_piece_a_failure_is_the_answers(
    second: str | Exception, options: dict[str, Any], code: str
) -> None:
    """What was shown cannot be taken back: text so far, then one failed event, as with a model."""

    @virtual
    async def fails() -> None:
        speaker = Speaker("It ", second, **options)
        prepared = await direct_of(speaker)
        seen: list[str] = []
        with pytest.raises(GatewayError) as raised:
            await read(direct_in(prepared), seen)
        assert (seen, raised.value.code) == (["", "It "], code)
        assert (speaker.played.begun, speaker.played.cleaned) == (1, 1)

    fails()


@virtual
async def test_a_direct_answer_holds_its_slot_while_it_streams() -> None:
    """It is a tool's work like any other: bounded, and ended when its last reader leaves."""
    speaker = Speaker("It ", "rains.")
    scene = Scene(chosen(("speak", {})), tools=(speaker.tool,))
    prepared = await scene.run()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(read(direct_in(prepared)))
        await settle()
        assert scene.bench.toolbox.stats().slots.in_use == 1
        task.cancel()
    assert (speaker.played.begun, speaker.played.cleaned) == (1, 1)
    scene.bench.assert_at_rest()


@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancelled_direct_answer_leaves_nothing(moment: Moment) -> None:
    """Row 76: waiting for its slot, for its first piece and for the next."""

    @virtual
    async def cancelled_everywhere() -> None:
        speaker = Speaker("It ", "rains.")
        scene = Scene(chosen(("speak", {})), tools=(speaker.tool,))
        prepared = await scene.run()

        async def check(n: int) -> None:
            await asyncio.sleep(10)
            scene.bench.assert_at_rest()
            assert speaker.played.begun == speaker.played.cleaned

        assert await cancel_at_every_await(lambda: read(direct_in(prepared)), check, moment=moment) >= 2

    cancelled_everywhere()


@pytest.mark.parametrize(
    ("form", "streams"),
    [
        ({}, True),
        ({"n": 1}, True),
        ({"n": 2}, False),
        ({"stop": ["x"]}, False),
        ({"response_format": {}}, False),
    ],
)
def test_an_answer_of_a_form_does_not_stream_from_a_tool(form: dict[str, Any], streams: bool) -> None:
    """A tool has one answer, and knows nothing of forms."""

    @virtual
    async def asked() -> None:
        scene = Scene(chosen(("speak", {})), tools=(Speaker("It rains.").tool,))
        prepared = await scene.run(**form)
        assert isinstance(prepared.direct, DirectAnswer) is streams

    asked()
