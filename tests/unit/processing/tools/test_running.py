"""One tool at a time: its clock, its tries, what is kept of its output, and that it cleans up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from processing.tools import Status, ToolFailed, tool
from processing.tools.results import MAX_TEXT
from tests.fakes.tools import Bench, Played, call
from tests.fakes.turns import settle
from tests.virtual_time import virtual


@virtual
async def test_thirty_that_time_out_clean_up_thirty_times() -> None:
    """Row 71: the `async with` and `finally` of each have run, and every slot is back."""
    played = Played()
    bench = Bench(played.sleeper(timeout_s=2, limit=10))
    results = await bench.run(*[call("sleep", seconds=60, say=str(n)) for n in range(30)])
    assert [result.status for result in results] == [Status.TIMED_OUT] * 30
    assert (played.begun, played.cleaned, played.inside) == (30, 30, 0)
    bench.assert_at_rest()


@virtual
async def test_thirty_that_are_cancelled_clean_up_thirty_times() -> None:
    """Row 71, when the request is given up."""
    played = Played()
    bench = Bench(played.sleeper(limit=30))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.run(*[call("sleep", seconds=60, say=str(n)) for n in range(30)]))
        await settle()
        assert played.inside == 30
        task.cancel()
    assert (played.begun, played.cleaned, played.inside) == (30, 30, 0)
    bench.assert_at_rest()


@virtual
async def test_the_clock_starts_when_the_slot_is_granted() -> None:
    """Rule 7: the last of five waits eight seconds and has its two all the same."""
    played = Played()
    bench = Bench(played.sleeper(timeout_s=2.5, limit=1))
    results = await bench.run(*[call("sleep", seconds=2, say=str(n)) for n in range(5)])
    assert [result.text for result in results] == list("01234")
    assert [result.waited_s for result in results] == pytest.approx([0, 2, 4, 6, 8])
    assert [result.ran_s for result in results] == pytest.approx([2] * 5)


@virtual
async def test_what_was_put_out_before_the_time_was_up_is_kept_and_marked() -> None:
    """Row 70: a partial result with a note, and the generator is closed."""
    played = Played()

    async def count() -> AsyncIterator[str]:
        """Counts."""
        async with played.counted():
            for n in range(10):
                yield f"{n} "
                await asyncio.sleep(1)

    bench = Bench(tool(count, cacheable=True, timeout_s=2.5))
    result = await bench.one("count")
    assert (result.status, result.text) == (Status.TIMED_OUT, "0 1 2 ")
    assert result.content == "0 1 2 \n[count timed out after 2.5 s; what is above is incomplete]"
    assert (played.begun, played.cleaned) == (1, 1)


@virtual
async def test_without_output_only_the_note_is_left() -> None:
    """The model must not take silence for an answer."""
    bench = Bench(Played().sleeper(timeout_s=1))
    assert (await bench.one("sleep", seconds=5)).content == "[sleep timed out after 1 s]"
    assert (await bench.one("sleep", seconds=0, say="")).content == "[no output]"


class Flaky:
    """Fails so many times before it works."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.left = failures
        self.error = error
        self.times: list[float] = []

    async def __call__(self) -> str:
        """Fails, then works."""
        self.times.append(asyncio.get_running_loop().time())
        if self.left:
            self.left -= 1
            raise self.error
        return "worked"


@virtual
async def test_a_failure_is_tried_again_and_a_back_off_holds_no_slot() -> None:
    """With one slot for all, another tool runs between two tries."""
    flaky, played = Flaky(2, ConnectionError()), Played()
    bench = Bench(tool(flaky, name="flaky", cacheable=True, retries=2), played.sleeper(), slots=1)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bench.one("flaky"))
        await settle()
        assert bench.toolbox.stats().slots.in_use == 0
        await bench.one("sleep", seconds=0.1)
        assert len(flaky.times) == 1
    assert (task.result().text, task.result().tries) == ("worked", 3)
    assert [time - flaky.times[0] for time in flaky.times] == pytest.approx([0, 0.25, 0.75])
    bench.assert_at_rest()


@pytest.mark.parametrize(
    ("failures", "error", "tries", "content"),
    [
        (9, ValueError("secret"), 3, "[flaky failed (ValueError)]"),
        (9, ToolFailed("no such city", final=True), 1, "[flaky failed: no such city]"),
        (9, ToolFailed("busy"), 3, "[flaky failed: busy]"),
        (1, ToolFailed("busy"), 2, "worked"),
        (9, SystemExit(3), 3, "[flaky failed (SystemExit)]"),
        (9, TimeoutError(), 3, "[flaky failed (TimeoutError)]"),
        (9, asyncio.CancelledError(), 3, "[flaky failed]"),
        (9, asyncio.InvalidStateError(), 3, "[flaky failed (InvalidStateError)]"),
    ],
)
def test_a_failure_is_told_without_its_secrets(
    failures: int, error: Exception, tries: int, content: str
) -> None:
    """Only a ToolFailed's text was meant to be told. A cancel or an exit of the tool's own ends nobody
    else.
    """

    @virtual
    async def told() -> None:
        bench = Bench(tool(Flaky(failures, error), name="flaky", cacheable=True, retries=2))
        result = await bench.one("flaky")
        assert (result.tries, result.content) == (tries, content)
        bench.assert_at_rest()

    told()


@virtual
async def test_a_timeout_is_not_tried_again() -> None:
    """It had its time; twice that would be the request's."""
    played = Played()
    bench = Bench(played.sleeper(timeout_s=1, retries=3))
    assert (await bench.one("sleep", seconds=5)).status is Status.TIMED_OUT
    assert played.begun == 1


@virtual
async def test_a_failure_after_some_output_keeps_it_and_the_next_try_begins_afresh() -> None:
    """Never a splice of two tries."""
    tries: list[int] = []

    async def half() -> AsyncIterator[str]:
        """Breaks in the middle."""
        tries.append(1)
        yield f"part {len(tries)}"
        if len(tries) < 3:
            raise ConnectionError
        yield ", whole"

    once = Bench(tool(half, cacheable=True))
    assert (await once.one("half")).content == (
        "part 1\n[half failed (ConnectionError); what is above is incomplete]"
    )
    again = Bench(tool(half, cacheable=True, retries=2))
    assert (await again.one("half")).content == "part 3, whole"


@virtual
async def test_a_cleanup_that_breaks_hides_neither_the_timeout_nor_the_slot() -> None:
    """What a tool raises while it is being ended is not what ended it."""

    async def clumsy() -> str:
        """Breaks twice."""
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("in the cleanup")

    bench = Bench(tool(clumsy, cacheable=True, timeout_s=1))
    assert (await bench.one("clumsy")).content == "[clumsy timed out after 1 s]"
    bench.assert_at_rest()


@virtual
async def test_an_endless_output_is_cut_and_marked() -> None:
    """A prompt has a bound, and what comes after it is not even produced."""
    played = Played()

    async def endless() -> AsyncIterator[str]:
        """Never ends."""
        async with played.counted():
            try:
                while True:
                    yield "x" * 1000
            finally:
                await asyncio.sleep(5)

    began = asyncio.get_running_loop().time()
    result = await Bench(tool(endless, cacheable=True)).one("endless")
    assert asyncio.get_running_loop().time() - began == 5
    assert (result.status, result.text) == (Status.OK, "x" * MAX_TEXT)
    assert result.note == "the output of endless is longer, the rest was cut off"
    assert (played.begun, played.cleaned) == (1, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (None, ""),
        (3, "3"),
        ([], "[]"),
        (b"bytes", '"bytes"'),
    ],
)
def test_what_is_no_text_is_json(value: Any, text: str) -> None:
    """A model reads JSON better than a Python repr."""

    @virtual
    async def told() -> None:
        async def give() -> Any:
            """Gives."""
            return value

        assert (await Bench(tool(give, cacheable=True)).one("give")).text == text

    told()


@virtual
async def test_what_has_no_json_is_a_failure() -> None:
    """A result that cannot be shown is not an empty one."""

    async def give() -> object:
        """Gives."""
        return object()

    result = await Bench(tool(give, cacheable=True)).one("give")
    assert result.content == "[give failed (PydanticSerializationError)]"
