"""The last step: it streams, and yet it has tries, a second choice, a time of its own, and tools."""

from __future__ import annotations

import asyncio

import pytest

from processing.account import account_of
from processing.preparer import Prompt
from processing.workflows.asking import BASE_S
from runtime.errors import (
    FirstTokenTimeout,
    PrepareFailed,
    StreamTimeout,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
)
from tests.fakes.workflows import TOLD_S, Flows, last_text
from tests.virtual_time import virtual
from upstream.errors import UpstreamUnavailable


def alone(*fields: str) -> str:
    return f"name: w\nsteps: [{{{', '.join(['name: a', 'prompt: x', *fields])}}}]"


def after(prompt: Prompt, error: UpstreamError) -> tuple[Prompt, float]:
    assert prompt.otherwise is not None
    following = prompt.otherwise(error)
    assert following is not None
    return following


def ends(prompt: Prompt, error: UpstreamError) -> bool:
    return prompt.otherwise is None or prompt.otherwise(error) is None


def entry(prompt: Prompt) -> dict[str, object]:
    (step,) = account_of(prompt.preface)["workflow"]["steps"]
    return dict(step)


@virtual
async def test_without_any_of_these_it_streams_once() -> None:
    prompt = await Flows(alone()).run("w")
    assert (prompt.within_s, prompt.otherwise) == (None, None)


@virtual
async def test_its_time_goes_with_its_prompt() -> None:
    assert (await Flows(alone("timeout_s: 5")).run("w")).within_s == 5


@virtual
async def test_it_is_tried_again_with_a_back_off() -> None:
    """As any step, `retries` times, each after a longer one."""
    prompt = await Flows(alone("retries: 2")).run("w")
    second, first_delay = after(prompt, UpstreamUnavailable())
    third, second_delay = after(second, StreamTimeout())
    assert (first_delay, second_delay) == (BASE_S, 2 * BASE_S)
    assert prompt.body == second.body == third.body
    assert third.store
    assert third.otherwise is None


@pytest.mark.parametrize("error", [UpstreamRejected(), UpstreamRateLimited(), FirstTokenTimeout()])
def test_what_will_not_pass_is_not_tried_again(error: UpstreamError) -> None:
    """The second choice is asked at once."""

    @virtual
    async def asked() -> None:
        prompt = await Flows(alone("retries: 2", "fallback: other")).run("w")
        following, delay = after(prompt, error)
        tried_again = following.body["model"] == "m"
        assert tried_again is isinstance(error, FirstTokenTimeout)
        assert (delay > 0) is tried_again

    asked()


@virtual
async def test_the_second_choice_says_so_and_is_not_kept() -> None:
    """The next request may get the first one again."""
    prompt = await Flows(alone("retries: 1", "fallback: other")).run("w")
    assert entry(prompt) == {**entry(prompt), "step": "a", "status": "streams"}
    assert "fallback" not in entry(prompt)
    again, _ = after(prompt, UpstreamUnavailable())
    second, delay = after(again, UpstreamUnavailable())
    assert (second.body["model"], delay, second.store) == ("other", 0.0, False)
    told = entry(second)
    assert (told["model"], told["fallback"]) == ("other", True)
    assert told["why"] == "answered by the fallback: upstream_error"
    last, _ = after(second, UpstreamUnavailable())
    assert last.body["model"] == "other"
    assert ends(last, UpstreamUnavailable())


@virtual
async def test_the_last_step_of_the_last_workflow_is_the_one_that_counts() -> None:
    """A nested workflow in the last place: what its last step has is what streams."""
    outer = "name: outer\nsteps: [{name: sub, workflow: w, prompt: q}]"
    prompt = await Flows(outer, alone("timeout_s: 5", "fallback: other")).run("outer")
    second, _ = after(prompt, UpstreamUnavailable())
    assert (prompt.within_s, second.body["model"]) == (5, "other")
    (sub,) = account_of(second.preface)["workflow"]["steps"]
    assert sub["inner"]["steps"][0]["fallback"] is True
    assert not second.store


@virtual
async def test_a_second_choice_is_counted_where_it_is_made() -> None:
    """The record was told before: who runs the gateway would not see that the first model is down."""
    heard: list[str] = []
    flows = Flows("name: outer\nsteps: [{name: sub, workflow: w, prompt: q}]", alone("fallback: other"))
    flows.step._fell_back = heard.append
    prompt = await flows.run("outer")
    assert heard == []
    after(prompt, UpstreamUnavailable())
    assert heard == ["w"]


NESTED = ("name: outer\nsteps: [{name: sub, workflow: w, prompt: q}]", alone("tools: [look-up]"))


@virtual
async def test_a_nested_last_step_that_fails_is_told_all_the_way_up() -> None:
    """Every failed step is in the record: an outer one that says `streams` would be a lie."""
    flows = Flows(*NESTED)
    flows.model.says["x"] = [UpstreamRejected()]
    with pytest.raises(PrepareFailed, match="'w' stopped at its step 'a'"):
        await flows.run("outer")
    assert flows.statuses() == {"sub": "failed"}
    assert flows.entry("sub").why == flows.inner("sub").steps[0].why == "upstream_rejected"


@virtual
async def test_a_nested_workflow_that_fails_before_its_last_step_is_told_too() -> None:
    inner = "name: w\nsteps: [{name: a, prompt: x}, {name: b, depends_on: [a], prompt: y}]"
    flows = Flows(NESTED[0], inner)
    flows.model.says["x"] = [UpstreamRejected()]
    with pytest.raises(PrepareFailed, match="sub failed"):
        await flows.run("outer")
    assert [step.status for step in flows.inner("sub").steps] == ["failed", "skipped"]


@virtual
async def test_a_nested_last_step_that_is_answered_by_its_tools_is_done_all_the_way_up() -> None:
    flows = Flows(*NESTED)
    prompt = await flows.run("outer")
    assert prompt.direct is not None
    assert (flows.statuses(), flows.inner("sub").steps[0].status) == ({"sub": "done"}, "done")


@virtual
async def test_a_nested_workflow_without_calls_left_is_told_all_the_way_up() -> None:
    outer = (
        "name: outer\nlimits: {calls: 1}\n"
        "steps: [{name: one, prompt: z}, {name: sub, depends_on: [one], workflow: w, prompt: q}]"
    )
    for inner in (NESTED[1], "name: w\nsteps: [{name: a, prompt: x}, {name: b, depends_on: [a], prompt: y}]"):
        flows = Flows(outer, inner)
        with pytest.raises(PrepareFailed, match="more than its 1 calls"):
            await flows.run("outer")
        assert flows.statuses() == {"one": "done", "sub": "failed"}
        assert flows.entry("sub").why == "no calls were left"


@virtual
async def test_a_nested_last_step_that_is_called_in_preparation_is_told_as_called() -> None:
    """Two deep and in the middle: nothing of it streams."""
    flows = Flows(
        "name: top\nsteps: [{name: mid, workflow: outer, prompt: q}, "
        "{name: end, depends_on: [mid], prompt: z}]",
        NESTED[0],
        alone(),
    )
    await flows.run("top")
    (sub,) = flows.inner("mid").steps
    assert (sub.status, sub.inner and sub.inner.steps[0].status) == ("done", "done")


@virtual
async def test_what_a_failed_try_has_used_is_counted() -> None:
    """It was paid for."""
    flows = Flows(alone("tools: [look-up]", "fallback: other"))
    flows.tools.fails = 1
    prompt = await flows.run("w")
    told = entry(prompt)
    assert (told["model"], told["calls"], told["prompt_tokens"]) == ("other", 2, 6)


@virtual
async def test_its_tools_run_before_and_what_the_model_says_then_is_the_answer() -> None:
    """Not asked again for what was just said."""
    flows = Flows(alone("tools: [look-up]"))
    prompt = await flows.run("w", temperature=0)
    assert flows.tools.asked == [("look-up",)]
    assert prompt.direct is not None
    told = entry(prompt)
    assert (told["status"], told["calls"], told["model"]) == ("done", 1, "m")
    assert (told["prompt_tokens"], told["completion_tokens"]) == (3, 2)
    assert flows.model.calls[0].body["temperature"] == 0, "the request's parameters are this step's"
    assert prompt.ttl_s == TOLD_S, "what the tools make of caching holds"
    flows.assert_over()


@virtual
async def test_after_its_tools_without_an_answer_it_streams() -> None:
    """With all that was said, and with what any last step has."""
    flows = Flows(alone("tools: [look-up]", "fallback: other"))
    flows.model.says["x"] = [""]
    prompt = await flows.run("w", temperature=0)
    assert prompt.direct is None
    assert (last_text(prompt), prompt.body["temperature"]) == ("what the tool said", 0)
    assert entry(prompt)["status"] == "streams"
    second, _ = after(prompt, UpstreamUnavailable())
    assert (second.body["model"], last_text(second)) == ("other", "what the tool said")


@virtual
async def test_rounds_that_fail_are_tried_again_and_by_the_second_choice() -> None:
    """Of the last step as of any."""
    flows = Flows(alone("tools: [look-up]", "retries: 1", "fallback: other"))
    flows.model.says["x"] = [UpstreamUnavailable(), UpstreamUnavailable(), ""]
    prompt = await flows.run("w")
    assert [call.body["model"] for call in flows.model.calls] == ["m", "m", "other"]
    assert (prompt.body["model"], prompt.store) == ("other", False)
    again, _ = after(prompt, UpstreamUnavailable())
    assert again.body["model"] == "other"
    assert ends(again, UpstreamUnavailable()), "there is no third choice"


@virtual
async def test_rounds_that_fail_for_good_fail_the_flight_and_are_told() -> None:
    flows = Flows(alone("tools: [look-up]"))
    flows.model.says["x"] = [UpstreamRejected()]
    with pytest.raises(PrepareFailed) as caught:
        await flows.run("w")
    assert "stopped at its step 'a'" in caught.value.message
    assert not caught.value.retryable
    assert flows.statuses() == {"a": "failed"}
    flows.assert_over()


@virtual
async def test_rounds_that_are_cut_off_are_told_as_such() -> None:
    """Who reads the log sees that nothing was wrong with the step."""
    flows = Flows(alone("tools: [look-up]"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await flows.run("w")
    assert flows.statuses() == {"a": "skipped"}
    assert flows.entry("a").why == "the run ended before it did"
    assert flows.shown == flows.ended == ["workflow/a"], "and who waited saw what for"
    flows.assert_over()


@virtual
async def test_rounds_are_bounded_by_the_calls_of_the_run() -> None:
    flows = Flows(
        "name: w\nlimits: {calls: 1}\nsteps: [{name: a, prompt: x}, "
        "{name: b, depends_on: [a], prompt: y, tools: [look-up]}]"
    )
    with pytest.raises(PrepareFailed):
        await flows.run("w")
    assert flows.statuses() == {"a": "done", "b": "failed"}
    assert flows.entry("b").why == "no calls were left"
    flows.assert_over()
