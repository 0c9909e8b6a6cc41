"""Tools that do what no tool should: whatever it is, it is a result, and the gateway goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from pydantic import BeforeValidator

from processing.account import account_of
from processing.preparer import DirectFailed, Prompt
from processing.tools import Status, ToolFailed, tool
from processing.twins import Company
from runtime.errors import GatewayError
from tests.fakes.tools import Bench, Played, Scene, Witness, call, chosen
from tests.fakes.turns import settle
from tests.unit.processing.tools.test_direct import direct_in, read
from tests.virtual_time import virtual

#: What os.listdir makes of a name that is not UTF-8: no JSON and no UTF-8 has it.
BROKEN = "file \udcff name"


async def returns() -> str:
    """Returns it."""
    return BROKEN


async def puts_out() -> AsyncIterator[str]:
    """Puts it out."""
    yield BROKEN


def blocks() -> Iterator[str]:
    """Puts it out of a thread."""
    yield BROKEN


@pytest.mark.parametrize("made", [returns, puts_out, blocks])
def test_a_text_that_no_request_can_carry_is_mended(made: Any) -> None:
    """Row 70: the model could not be asked with it, and the whole request would end as internal_error."""

    @virtual
    async def runs() -> None:
        result = await Bench(tool(made, name="list", cacheable=True)).one("list")
        assert (result.status, result.content) == (Status.OK, "file ? name")

    runs()


@virtual
async def test_a_reason_that_no_request_can_carry_is_mended() -> None:
    """Row 70: what a tool says of its failure may quote such a name."""

    async def fails() -> str:
        """Fails."""
        raise ToolFailed(f"no {BROKEN}")

    result = await Bench(tool(fails, cacheable=True)).one("fails")
    assert result.content == "[fails failed: no file ? name]"


def test_a_text_of_other_letters_is_left_alone() -> None:
    """Only what cannot be sent is replaced."""

    @virtual
    async def runs() -> None:
        async def says() -> str:
            """Says."""
            return "Größe 😀"

        assert (await Bench(tool(says, cacheable=True)).one("says")).text == "Größe 😀"

    runs()


def ends_in_loop(error: BaseException) -> Any:
    async def ends() -> str:
        """Ends."""
        raise error

    return ends


def ends_in_thread(error: BaseException) -> Any:
    def ends() -> str:
        """Ends."""
        raise error

    return ends


@pytest.mark.parametrize("where", [ends_in_loop, ends_in_thread])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_a_tool_cannot_end_the_process(where: Any, error: BaseException) -> None:
    """Row 70: a library's exit is that tool's failure, and its neighbour has its result."""

    @virtual
    async def runs() -> None:
        bench = Bench(tool(where(error), name="ends", cacheable=True), Played().sleeper())
        results = await bench.run(call("ends"), call("sleep"))
        assert [result.content for result in results] == [f"[ends failed ({type(error).__name__})]", "done"]
        bench.assert_at_rest()

    runs()


def speaker(*pieces: Any) -> Scene:
    """A model that chooses a tool which streams `pieces`, and raises those that are errors."""

    async def speak() -> AsyncIterator[Any]:
        """Speaks."""
        for piece in pieces:
            await asyncio.sleep(0)
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    made = tool(speak, cacheable=True, direct_stream=True)
    return Scene(chosen(("speak", {})), tools=(made,))


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()])
def test_an_answer_that_a_tool_gives_cannot_end_more_than_itself(error: BaseException) -> None:
    """Row 72: neither the process nor, by a cancel of the tool's own, a request that waits for ever.

    Before its first piece the usual way is open; after it the answer has failed.
    """

    @virtual
    async def runs() -> None:
        early, late = speaker(error), speaker("It ", error)
        with pytest.raises(DirectFailed):
            await read(direct_in(await early.run()))
        seen: list[str] = []
        with pytest.raises(GatewayError) as raised:
            await read(direct_in(await late.run()), seen)
        assert (seen, raised.value.code) == (["", "It "], "upstream_truncated")
        for scene in (early, late):
            scene.bench.assert_at_rest()

    runs()


@virtual
async def test_pieces_of_an_answer_are_what_they_are_in_a_result() -> None:
    """Row 72: a text as it is and mended, anything else as JSON, nothing for nothing."""
    scene = speaker({"a": 1}, None, "x", BROKEN, 3)
    assert await read(direct_in(await scene.run())) == (["", '{"a":1}', "x", "file ? name", "3", ""], "stop")


def looked_up(value: Any) -> Any:
    return {}[value]


@virtual
async def test_a_check_of_arguments_that_breaks_is_a_call_that_was_not_run() -> None:
    """Row 72: a fault of the tool's hints; the model answers without it, as with any other tool."""

    async def speak(about: Annotated[str, BeforeValidator(looked_up)]) -> AsyncIterator[str]:
        """Speaks."""
        yield about

    made = tool(speak, cacheable=True, direct_stream=True)
    prepared: Prompt = await Scene(chosen(("speak", {"about": "x"})), tools=(made,)).run()
    with pytest.raises(DirectFailed, match="speak was not run"):
        await read(direct_in(prepared))
    told = account_of(direct_in(prepared).otherwise.preface)
    assert told["tools"][0]["status"] == "failed"


@virtual
async def test_a_call_that_is_cut_off_is_told_and_counted() -> None:
    """Row 81: what was begun has an end, also if nobody waits for it; what was not begun has none."""
    witness = Witness()
    bench = Bench(
        Played().sleeper(), Played().sleeper("write", cacheable=False, stateful=True), observer=witness
    )
    async with asyncio.TaskGroup() as group:
        calls = [call("sleep", seconds=9), call("write", seconds=9), call("write", seconds=8)]
        running = group.create_task(bench.run(*calls))
        await settle()
        running.cancel()
    assert sorted(witness.begun) == ["sleep", "write"]
    assert sorted(witness.ends) == [("sleep", "cancelled", False), ("write", "cancelled", False)]
    bench.assert_at_rest()


@virtual
async def test_an_answer_of_a_tool_that_is_cut_off_is_told_as_cut_off() -> None:
    """Row 81: its last reader has left, which is no failure of the tool."""
    witness = Witness()

    async def speak() -> AsyncIterator[str]:
        """Speaks."""
        yield "It "
        await asyncio.sleep(60)

    scene = Scene(chosen(("speak", {})), tools=(tool(speak, cacheable=True, direct_stream=True),))
    scene.bench.toolbox.executor("speak").events._observer = witness
    prepared = await scene.run()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read(direct_in(prepared)))
        await settle()
        reading.cancel()
    assert witness.ends == [("speak", "cancelled", False)]
    scene.bench.assert_at_rest()


@virtual
async def test_an_answer_of_a_tool_tells_how_long_it_has_waited() -> None:
    """Row 81: for its slots, as any tool does; a queue of streams is seen in the metrics."""

    class Waits(Witness):
        def started(self, tool: str, waited_s: float) -> None:
            self.begun.append(f"{tool} {waited_s:g}")

    witness = Waits()
    scene = speaker("It")
    scene.bench.toolbox.executor("speak").events._observer = witness
    first = await scene.run()
    async with asyncio.TaskGroup() as group, scene.bench.toolbox.executor("speak").limits.lease(Company()):
        reading = group.create_task(read(direct_in(first)))
        await asyncio.sleep(3)
        assert not reading.done()
    assert witness.begun == ["speak 3"]
    scene.bench.assert_at_rest()
