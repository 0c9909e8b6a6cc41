"""Preparation: steps in order, each shown, and nothing of the request changed in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from processing.preparer import Preparer, Prompt, with_messages
from runtime.errors import PrepareFailed
from tests.fakes.turn import prompt
from tests.virtual_time import virtual


class Marking:
    def __init__(self, name: str) -> None:
        self.name = name

    def applies(self, body: Mapping[str, Any]) -> bool:
        return self.name not in body.get("without", "")

    async def run(self, prompt: Prompt) -> Prompt:
        return replace(prompt, body={**prompt.body, "marks": prompt.body.get("marks", "") + self.name})


class Failing:
    name = "failing"

    def applies(self, body: Mapping[str, Any]) -> bool:
        return True

    async def run(self, prompt: Prompt) -> Prompt:
        raise PrepareFailed


@virtual
async def test_steps_run_in_order_and_each_is_announced_before_it_runs() -> None:
    """A waiting client sees `preparing:<step>`."""
    shown: list[str] = []
    prepared = await Preparer([Marking("a"), Marking("b")]).prepare(prompt(), shown.append)
    assert shown == ["a", "b"]
    assert prepared.body["marks"] == "ab"
    assert prepared.question == prompt().body


@virtual
async def test_a_plain_request_needs_no_preparation() -> None:
    """It goes through as it came: the very same prompt."""
    preparer = Preparer()
    asked = prompt()
    assert not preparer.applies(asked.body)
    assert Preparer([Marking("a")]).applies(asked.body)
    assert await preparer.prepare(asked, lambda step: None) is asked


@virtual
async def test_a_step_that_does_not_apply_is_neither_run_nor_shown() -> None:
    """What one step makes of the request decides about the next."""
    shown: list[str] = []
    asked = replace(prompt(), body={**prompt().body, "without": "b"})
    preparer = Preparer([Marking("a"), Marking("b")])
    prepared = await preparer.prepare(asked, shown.append)
    assert (shown, prepared.body["marks"]) == (["a"], "a")
    assert not Preparer([Marking("b")]).applies(asked.body)


@virtual
async def test_a_step_that_fails_ends_the_preparation() -> None:
    """The steps after it do not run."""
    shown: list[str] = []
    with pytest.raises(PrepareFailed):
        await Preparer([Failing(), Marking("b")]).prepare(prompt(), shown.append)
    assert shown == ["failing"]


def test_other_messages_make_another_prompt() -> None:
    """The request's own body is shared with the sharing key and with followers: it never changes."""
    asked = prompt()
    before = dict(asked.body)
    other = with_messages(asked, [{"role": "user", "content": "new"}], "bigger")
    assert asked.body == before
    assert other.body == {**before, "messages": [{"role": "user", "content": "new"}], "model": "bigger"}
    assert with_messages(asked, []).body["model"] == "m"
