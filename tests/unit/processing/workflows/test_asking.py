"""One step's calls: tries, a second choice, its own clock, and answers that were cut."""

from __future__ import annotations

import asyncio

import pytest

from processing.workflows.asking import CONTINUE, MAX_CUTS
from runtime.errors import UpstreamAuth, UpstreamBadResponse, UpstreamError, UpstreamRateLimited
from tests.fakes.turn import FakeTurn
from tests.fakes.workflows import Cut, Flows, last_text
from tests.virtual_time import virtual


def one(options: str, calls: int = 1) -> Flows:
    """A step `a` with these options, and a last one that says what came of it."""
    return Flows(
        f"""
        name: one
        steps:
          - {{name: a, prompt: "a", {options}}}
          - {{name: b, prompt: "b"}}
          - {{name: end, depends_on: [a, b], prompt: "{{{{ results.a }}}}"}}
        """,
        calls=calls,
    )


@virtual
async def test_the_fallback_answers_and_the_record_says_so() -> None:
    """Row 68: and the answer is not kept, for the next request may get the first choice."""
    flows = one("model: first, fallback: second")
    flows.model.says["a"] = [UpstreamAuth(), "from the second"]
    prepared = await flows.run("one")
    assert last_text(prepared) == "from the second"
    entry = flows.entry("a")
    assert (entry.model, entry.fallback) == ("second", True)
    assert entry.why == "answered by the fallback: upstream_auth"
    assert [call.body["model"] for call in flows.model.asked("plan:a")] == ["first", "second"]
    assert not prepared.store
    assert flows.record.summary()["steps"][0]["fallback"] is True


@virtual
async def test_a_fallback_that_fails_too_is_a_failure() -> None:
    """The reason is the last one."""
    flows = one("fallback: second")
    flows.model.says["a"] = [UpstreamAuth(), UpstreamBadResponse()]
    assert last_text(await flows.run("one")) == "[missing: a: upstream_bad_response]"


@virtual
async def test_retries_hold_nothing_and_come_before_the_fallback() -> None:
    """Another step has the only permit meanwhile."""
    flows = one("retries: 2, fallback: second")
    flows.model.says["a"] = [UpstreamError(), UpstreamError(), UpstreamError(), "at last"]
    prepared = await flows.run("one")
    assert last_text(prepared) == "at last"
    models = [call.body["model"] for call in flows.model.asked("plan:a")]
    assert models == ["m", "m", "m", "second"]
    assert flows.model.prompts()[:2] == ["a", "b"]
    assert flows.entry("a").cost.calls == 4
    flows.assert_over()


@pytest.mark.parametrize("error", [UpstreamAuth(), UpstreamRateLimited(retry_after=3600)])
def test_what_cannot_get_better_is_not_tried_again(error: UpstreamError) -> None:
    """A refused key stays refused, and who said to come back in an hour meant it."""

    @virtual
    async def once() -> None:
        flows = one("retries: 5")
        flows.model.says["a"] = [error]
        await flows.run("one")
        assert len(flows.model.asked("plan:a")) == 1
        assert flows.entry("a").why == error.code

    once()


@virtual
async def test_an_empty_answer_is_none() -> None:
    """A step that says nothing would be a gap that nobody sees."""
    flows = one("retries: 1")
    flows.model.says["a"] = [" \n", ""]
    assert last_text(await flows.run("one")) == "[missing: a: the answer was empty]"


@virtual
async def test_a_cut_answer_is_continued() -> None:
    """The model sees what it has said, and the pieces become one text."""
    flows = one("parameters: {max_tokens: 5}")
    flows.model.says["a"] = [Cut("one ")]
    flows.model.says[CONTINUE] = [Cut("two "), "three"]
    assert last_text(await flows.run("one")) == "one two three"
    third = flows.model.asked(f"plan:{CONTINUE}")[1]
    assert third.body["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "one two "},
        {"role": "user", "content": CONTINUE},
    ]
    assert third.body["max_tokens"] == 5
    entry = flows.entry("a")
    assert (entry.cost.calls, entry.cost.completion_tokens, entry.cost.prompt_tokens) == (3, 6, 9)


@virtual
async def test_an_answer_that_is_cut_again_and_again_stops_with_a_clear_error() -> None:
    """An answer without an end would cost without an end."""
    flows = one("retries: 5")
    flows.model.says["a"] = [Cut("one ")]
    flows.model.says[CONTINUE] = [Cut("more ")] * 10
    assert last_text(await flows.run("one")) == "[missing: a: cut by the token limit 3 times in a row]"
    assert flows.entry("a").cost.calls == MAX_CUTS == 3


@virtual
async def test_the_clock_of_a_step_starts_with_its_permit() -> None:
    """Rule 7: ten seconds in the queue are nobody's fault, a call of two seconds is within three."""
    flows = one("timeout_s: 3")
    flows.model.takes = {"a": 2}
    holder = flows.stage.admit(FakeTurn(-1))
    asyncio.get_running_loop().call_later(10, holder.withdraw)
    assert last_text(await flows.run("one")) == "a!"
    cost = flows.entry("a").cost
    assert cost.seconds == pytest.approx(2)
    assert cost.queued_s == pytest.approx(10)


@pytest.mark.parametrize("queued", [0, 1, 2.9, 3, 3.1, 5.9, 6, 100])
def test_a_step_that_runs_too_long_ends_exactly_then(queued: float) -> None:
    """However long it waited before: three seconds are three seconds."""

    @virtual
    async def too_long() -> None:
        flows = one("timeout_s: 3", calls=1)
        flows.model.takes = {"a": 4}
        holder = flows.stage.admit(FakeTurn(-1))
        began = asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_later(queued, holder.withdraw)
        assert last_text(await flows.run("one")) == "[missing: a: timed_out]"
        # After it the other step has its second.
        assert asyncio.get_running_loop().time() - began == pytest.approx(queued + 3 + 1)
        flows.assert_over()

    too_long()


@virtual
async def test_a_second_wait_is_not_charged_either() -> None:
    """A continuation that queues behind others has run no longer for it."""
    flows = one("timeout_s: 3")
    flows.model.says["a"] = [Cut("one ")]
    flows.model.says[CONTINUE] = ["two"]
    flows.model.takes = {"b": 10}
    assert last_text(await flows.run("one")) == "one two"
    assert flows.model.prompts() == ["a", "b", CONTINUE]


@virtual
async def test_a_timed_out_try_may_be_followed_by_another() -> None:
    """Each try has the whole time: else a retry after a timeout would be none."""
    flows = one("timeout_s: 3, fallback: quick")
    flows.model.takes = {"a": 4}

    def quicker() -> None:
        flows.model.takes = {"a": 2.5}

    asyncio.get_running_loop().call_later(3.5, quicker)
    assert last_text(await flows.run("one")) == "a!"
    assert flows.entry("a").model == "quick"
    assert flows.entry("a").why == "answered by the fallback: timed_out"
