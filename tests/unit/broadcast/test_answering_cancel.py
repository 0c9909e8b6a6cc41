"""Cancel, double-cancel and errors at every await of an upstream call, its retry included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

import pytest

from broadcast.lifecycle import Phase
from runtime.errors import GatewayError, SlotTimeout
from tests.cancellation import Moment, cancel_at_every_await, raise_at_every_await
from tests.fakes.answering import Answer, Answers
from tests.fakes.claims import Ticket
from tests.fakes.invariants import assert_free
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable


class Run:
    """An answer that waits for its slot, fails once, backs off and is then complete; a new one per run."""

    def __init__(self) -> None:
        self.parts = Answers()
        self.answer: Answer | None = None
        self._numbers = count()

    def start(self) -> Coroutine[Any, Any, None]:
        prompt = f"q{next(self._numbers)}"
        holder = self.parts.stage.admit(Ticket("holder", -1))
        asyncio.get_running_loop().call_later(1, holder.withdraw)
        self.parts.model.errors[prompt] = [UpstreamUnavailable()]
        self.answer = self.parts.queued(prompt)
        return self.answer.run()

    async def all_back(self, n: int) -> None:
        """No permit, no call; and what was said is of one call, and none is made later."""
        assert self.answer is not None
        calls = len(self.parts.model.calls)
        self.answer.broadcast.fail(GatewayError())
        await asyncio.sleep(60)
        assert_free(self.parts.stage)
        assert self.parts.model.in_flight["llm_streams"] == 0
        assert len(self.parts.model.calls) == calls
        said = [call.said for call in self.parts.model.asked(self.answer.broadcast.key or "")]
        assert self.answer.text == "" or any(one.startswith(self.answer.text) for one in said)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("moment", ["waiting", "granted"])
def test_a_cancelled_call_gives_everything_back(moment: Moment, again: bool) -> None:
    """In the queue, while connecting, in the back-off, between two chunks, while closing."""

    @virtual
    async def cancelled_everywhere() -> None:
        run = Run()
        suspensions = await cancel_at_every_await(run.start, run.all_back, moment=moment, again=again)
        assert suspensions >= 5, "the slot, two connects, the back-off, the close"

    cancelled_everywhere()


@pytest.mark.parametrize("error", [ConnectionError, TimeoutError, SlotTimeout])
def test_a_call_that_breaks_anywhere_fails_for_all(error: Callable[[], Exception]) -> None:
    """An error that nobody foresaw is a failure of this answer: no subscriber waits for ever."""

    @virtual
    async def breaking_everywhere() -> None:
        run = Run()
        undisturbed: list[bool] = []

        async def told(n: int) -> None:
            assert run.answer is not None
            assert run.answer.broadcast.end is not None, "the subscribers were never told"
            undisturbed.append(run.answer.broadcast.phase is Phase.SEALED)
            await run.all_back(n)

        assert await raise_at_every_await(run.start, told, error) >= 5
        # Complete only undisturbed, or where the answer was complete and its connection was being closed.
        assert undisturbed[-2:] == [True, True]
        assert not any(undisturbed[:-2])

    breaking_everywhere()
