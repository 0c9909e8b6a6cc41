"""A step's back-off, its record after each ending, and the clock of a try."""

from __future__ import annotations

import asyncio

import pytest

from processing.workflows.asking import CONTINUE
from runtime.errors import UpstreamAuth, UpstreamError
from tests.fakes.turn import FakeTurn
from tests.fakes.workflows import Cut, Flows, last_text
from tests.unit.processing.workflows.test_asking import one
from tests.virtual_time import virtual


@virtual
async def test_a_back_off_is_drawn_from_nothing_up_and_doubles() -> None:
    """Full jitter: steps that failed together do not come back together."""
    flows = one("retries: 5")
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    flows.step._uniform = uniform
    flows.model.says["a"] = [UpstreamError() for _ in range(9)]
    began = asyncio.get_running_loop().time()
    await flows.run("one")
    assert drawn == [(0.0, high) for high in (0.25, 0.5, 1.0, 2.0, 4.0)]
    assert asyncio.get_running_loop().time() - began == pytest.approx(7)
    assert len(flows.model.asked("plan:a")) == 6


@virtual
async def test_a_second_choice_has_all_its_tries_too() -> None:
    """And none is made after the last."""
    flows = one("retries: 1, fallback: second")
    flows.model.says["a"] = [UpstreamError() for _ in range(3)]
    assert last_text(await flows.run("one")) == "a!"
    assert [call.body["model"] for call in flows.model.asked("plan:a")] == ["m", "m", "second", "second"]
    entry = flows.entry("a")
    assert (entry.model, entry.why) == ("second", "answered by the fallback: upstream_error")


@virtual
async def test_a_first_choice_that_answers_late_is_no_second_choice() -> None:
    """Tried again with the same model, it is whole: no word about it, and it may be kept."""
    flows = one("retries: 1, fallback: second")
    flows.model.says["a"] = [UpstreamError()]
    prepared = await flows.run("one")
    entry = flows.entry("a")
    assert (entry.model, entry.fallback, entry.why) == ("m", False, "")
    assert prepared.store


@virtual
async def test_what_failed_has_no_model() -> None:
    """None of those that were asked has answered."""
    flows = one("fallback: second")
    flows.model.says["a"] = [UpstreamAuth(), UpstreamAuth()]
    await flows.run("one")
    entry = flows.entry("a")
    assert (entry.model, entry.fallback, entry.why) == (None, False, "upstream_auth")
    assert entry.cost.calls == 2
    assert entry.cost.seconds == pytest.approx(2)


@virtual
async def test_a_continuation_is_asked_without_tools() -> None:
    """It goes on with a text; a tool that is chosen there would be asked for in its middle."""
    flows = one("tools: [look-up]")
    flows.model.says["a"] = ["first round", Cut("one ")]
    flows.model.says[CONTINUE] = ["two"]
    assert last_text(await flows.run("one")) == "one two"
    assert flows.tools.asked == [("look-up",)]
    assert flows.entry("a").cost.calls == 3


@pytest.mark.parametrize(("takes", "said"), [(2.999, "a!"), (3.001, "[missing: a: timed_out]")])
def test_a_try_has_its_time_to_the_end(takes: float, said: str) -> None:
    """Two waits in it cost nothing of it."""

    @virtual
    async def tried() -> None:
        flows = one("timeout_s: 3")
        flows.model.takes = {"a": takes}
        holder = flows.stage.admit(FakeTurn(-1))
        asyncio.get_running_loop().call_later(7, holder.withdraw)
        assert last_text(await flows.run("one")) == said
        assert flows.entry("a").cost.queued_s == pytest.approx(7)

    tried()


@virtual
async def test_a_shared_call_is_waited_for_by_both_and_paid_by_both() -> None:
    """Two runs of one workflow at the same time: one call each, and one for the model."""
    flows = Flows(
        'name: w\npattern: pipeline\nsteps: [{name: a, prompt: a}, {name: b, prompt: "{{ results.a }}"}]'
    )
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(flows.run("w"))
    assert flows.model.prompts() == ["a"]
    assert [record.calls for record in flows.records] == [1, 1]
    flows.assert_over()


@virtual
async def test_a_try_that_timed_out_or_said_nothing_is_followed_by_another() -> None:
    """With the same model: it may do better."""
    flows = one("timeout_s: 3, retries: 2")
    flows.model.takes = {"a": 4}
    flows.model.says["a"] = [" ", "at last"]

    def quicker() -> None:
        flows.model.takes = {"a": 1}

    asyncio.get_running_loop().call_later(3.1, quicker)
    assert last_text(await flows.run("one")) == "at last"
    entry = flows.entry("a")
    assert (entry.cost.calls, entry.model, entry.fallback) == (3, "m", False)
