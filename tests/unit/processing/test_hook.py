"""The hook step: what the operator's service decides, and what it cannot decide."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from processing.hook import HookStep
from runtime.errors import PrepareFailed
from tests.cancellation import cancel_at_every_await
from tests.fakes.hook import FakeHook
from tests.fakes.turn import prompt
from tests.virtual_time import virtual
from upstream.hook import PreparationHook


def step(hook: FakeHook) -> HookStep:
    return HookStep(cast(PreparationHook, hook))


@virtual
async def test_the_hooks_answer_becomes_the_prompt() -> None:
    """Model and messages are its to choose; every parameter of the request stays."""
    hook = FakeHook()
    hook.model, hook.ttl_s = "bigger", 7.0
    prepared = await step(hook).run(prompt("hello"))
    assert hook.asked == ["hello"]
    assert prepared.body == {**prompt("hello").body, "model": "bigger"}
    assert (prepared.store, prepared.ttl_s) == (True, 7.0)


@pytest.mark.parametrize(("asked", "answered"), [(True, False), (False, True), (False, False)])
def test_either_may_keep_an_answer_out_of_the_cache(asked: bool, answered: bool) -> None:
    """A hook cannot store what an earlier step decided not to."""

    @virtual
    async def kept_out() -> None:
        hook = FakeHook()
        hook.store = answered
        prepared = await step(hook).run(replace(prompt(), store=asked))
        assert not prepared.store

    kept_out()


@virtual
async def test_a_failing_hook_fails_the_preparation_as_it_failed() -> None:
    """No default prompt in its place: rule 15."""
    hook = FakeHook()
    hook.error = PrepareFailed()
    with pytest.raises(PrepareFailed):
        await step(hook).run(prompt())


@virtual
async def test_a_cancel_leaves_the_hook_at_once() -> None:
    """Wherever it waits, the call of the hook ends with the flight."""
    hook = FakeHook()

    def left(n: int) -> None:
        assert hook.inside == 0

    assert await cancel_at_every_await(lambda: step(hook).run(prompt()), left) == 1
