"""The simulated answer: foretold from the prompt, and from nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from upstream.simulator import answer_tokens, prompt_digest
from upstream.simulator.answers import last_user_text, prompt_tokens

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": _texts}), max_size=3)
_messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user"]), "content": _texts | _parts}),
    min_size=1,
    max_size=4,
)


def _user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@given(_messages, _messages)
@settings(deadline=None)
def test_prompts_that_differ_anywhere_have_different_digests(first: Any, second: Any) -> None:
    """Equal prompts have one digest, and no two different ones share theirs."""
    assert (first == second) == (prompt_digest(first) == prompt_digest(second))


@given(_messages, st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_a_shorter_answer_is_a_prefix_of_a_longer_one(messages: Any, one: int, other: int) -> None:
    """The number of tokens decides only where the answer ends."""
    short, long = sorted((one, other))
    assert answer_tokens(messages, long)[:short] == answer_tokens(messages, short)
    assert len(answer_tokens(messages, long)) == long


def test_the_first_token_carries_the_digest_and_says_that_it_is_simulated() -> None:
    """Whoever reads an answer sees that it is simulated, and whose it is."""
    messages = _user("Sing!")
    assert answer_tokens(messages, 1) == [f"Simulated answer {prompt_digest(messages)}:"]


def test_an_answer_never_changes_between_versions() -> None:
    """Recorded answers stay comparable: the text is fixed for a prompt, not merely repeatable."""
    text = "".join(answer_tokens(_user("Sing!"), 9))
    assert text == "Simulated answer af8a75c29228: The quiet sailor finds another second harbour again."


def test_the_order_of_keys_inside_a_message_is_no_difference() -> None:
    """A gateway that re-encodes a message has not changed the prompt."""
    assert prompt_digest([{"role": "user", "content": "a"}]) == prompt_digest(
        [{"content": "a", "role": "user"}]
    )


def test_the_last_user_message_is_found_behind_other_roles() -> None:
    """Preparation appends system messages; directives still come from the user's last words."""
    messages = [*_user("first"), *_user([{"type": "text", "text": "se"}, {"type": "text", "text": "cond"}])]
    assert last_user_text([*messages, {"role": "system", "content": "x"}]) == "se\ncond"
    assert last_user_text([{"role": "system", "content": "x"}]) == ""


def test_odd_contents_count_as_no_text() -> None:
    """Null contents, images and nonsense parts cost nothing and break nothing."""
    odd: list[Any] = [None, 7, [{"type": "image_url"}, "loose", {"text": 3}]]
    assert prompt_tokens([{"role": "user", "content": content} for content in odd]) == 1
    assert prompt_tokens(_user("one two  three")) == 3
