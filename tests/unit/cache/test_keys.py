"""The sharing key: everything that could change an answer is in it, and nothing else."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.keys import INERT, SharingKeys, beside, scope_of

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "What is it?"}],
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": 1, "b": [1, 2]}}}],
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def keys(*, share_globally: bool = False, loosely: bool = False, fingerprint: str = "up") -> SharingKeys:
    return SharingKeys(
        share_globally=share_globally, normalize_loosely=loosely, fingerprint=(fingerprint, "")
    )


def saying(content: object) -> dict[str, Any]:
    return {**BODY, "messages": [{"role": "user", "content": content}]}


def shuffled(value: Any, chance: random.Random) -> Any:
    """The same JSON with its keys in another order, at every depth."""
    if isinstance(value, dict):
        items = [(name, shuffled(inner, chance)) for name, inner in value.items()]
        chance.shuffle(items)
        return dict(items)
    return [shuffled(inner, chance) for inner in value] if isinstance(value, list) else value


@given(json_values, st.randoms(use_true_random=False))
def test_the_order_of_keys_and_white_space_do_not_matter(value: Any, chance: random.Random) -> None:
    """Row 11: two clients' serializers are no reason to ask the model twice."""
    body = {**BODY, "extra": value}
    again = json.loads(json.dumps(shuffled(body, chance), indent=3))
    assert keys().key("t", body) == keys().key("t", again)


@given(st.text(min_size=1, max_size=8).filter(lambda name: name not in INERT | BODY.keys()), json_values)
def test_every_parameter_counts_also_unknown_ones(name: str, value: Any) -> None:
    """What we do not know may change the answer all the same."""
    assert keys().key("t", {**BODY, name: value}) != keys().key("t", BODY)


@pytest.mark.parametrize("name", sorted(INERT))
def test_the_gateways_own_fields_do_not_count(name: str) -> None:
    """Row 101: a stream and a non-stream caller share one answer."""
    assert keys().key("t", {**BODY, name: "anything"}) == keys().key("t", BODY)


def test_inert_fields_are_those_of_the_design_and_no_more() -> None:
    """A field is proven inert, or it counts."""
    assert {"stream", "stream_options", "request_id", "priority", "cache", "metadata"} == INERT


@pytest.mark.parametrize(
    "other",
    [
        saying("what is it?"),
        saying("What is it? "),
        saying("What is ít?"),
        saying([{"type": "text", "text": "What is it?"}]),
        {**BODY, "messages": [{"role": "system", "content": "x"}, *BODY["messages"]]},
        {**BODY, "temperature": 0.6},
        {**BODY, "model": "M"},
        {**BODY, "tools": [{**BODY["tools"][0], "type": "g"}]},
        {**BODY, "stop": ["a", "b"]},
        {name: value for name, value in BODY.items() if name != "temperature"},
    ],
)
def test_another_question_has_another_key(other: dict[str, Any]) -> None:
    """Row 11: exact by default, in every message and parameter."""
    assert keys().key("t", other) != keys().key("t", BODY)


def test_unicode_forms_and_orders_of_lists_are_told_apart() -> None:
    """No folding: what looks alike may mean something else to a model."""
    assert keys().key("t", saying("\u00e9")) != keys().key("t", saying("e\u0301"))
    assert keys().key("t", {**BODY, "stop": ["a", "b"]}) != keys().key("t", {**BODY, "stop": ["b", "a"]})


def test_tenants_share_only_by_the_operators_choice() -> None:
    """Row 12: user B never sees user A's answer, and the scope says whose it is, so that it can be purged."""
    assert keys().key("a", BODY) != keys().key("b", BODY)
    assert keys().key("a", BODY)[16:] == keys().key("b", BODY)[16:]
    shared = keys(share_globally=True)
    assert shared.key("a", BODY) == shared.key("b", BODY)
    assert shared.scope("a") == scope_of(None)
    assert len({scope_of(None), scope_of("*"), scope_of("a"), scope_of("")}) == 4


def test_what_would_prepare_and_answer_it_counts() -> None:
    """Another upstream, hook or planning model: old answers are not found under new ones."""
    assert keys(fingerprint="one").key("t", BODY) != keys(fingerprint="two").key("t", BODY)
    one = SharingKeys(share_globally=False, normalize_loosely=False, fingerprint=("ab", "c"))
    other = SharingKeys(share_globally=False, normalize_loosely=False, fingerprint=("a", "bc"))
    assert one.key("t", BODY) != other.key("t", BODY)


def test_a_key_is_64_hex_digits_and_tells_nothing() -> None:
    """I5: no prompt in Redis key names; and it is keyed, so that nobody can try prompts against it."""
    key = keys().key("tenant", BODY)
    assert len(key) == 64
    assert set(key) <= set("0123456789abcdef")
    assert key.startswith(scope_of("tenant"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (saying("What is it?"), saying("what is IT")),
        (saying([{"type": "text", "text": "A, b!"}]), saying([{"type": "text", "text": "ab"}])),
    ],
)
def test_loose_keys_know_letters_and_digits_only(one: dict[str, Any], other: dict[str, Any]) -> None:
    """`KEY_NORMALIZATION=loose`: case and punctuation of what is said do not matter."""
    assert keys(loosely=True).key("t", one) == keys(loosely=True).key("t", other)
    assert keys().key("t", one) != keys().key("t", other)


@pytest.mark.parametrize(
    "other",
    [saying("What is 1t?"), {**BODY, "temperature": 0.6}, {**BODY, "model": "M"}, saying(None), saying([1])],
)
def test_loose_keys_are_loose_about_nothing_else(other: dict[str, Any]) -> None:
    """Words and parameters still count, and messages of any shape have a key."""
    assert keys(loosely=True).key("t", other) != keys(loosely=True).key("t", BODY)


def test_an_edit_of_a_model_of_our_own_changes_its_keys_alone() -> None:
    """A workflow's edit must not serve old answers; everybody else's answers are still theirs."""

    def versioned(version: str) -> SharingKeys:
        return SharingKeys(
            share_globally=False,
            normalize_loosely=False,
            fingerprint=("up", ""),
            versions={"workflow:a": version, "workflow:b": "1"},
        )

    before, after = versioned("1"), versioned("2")
    edited, other = {**BODY, "model": "workflow:a"}, {**BODY, "model": "workflow:b"}
    assert before.key("t", edited) != after.key("t", edited)
    assert before.key("t", edited)[:16] == after.key("t", edited)[:16] == scope_of("t")
    assert before.key("t", other) == after.key("t", other)
    assert before.key("t", BODY) == after.key("t", BODY) == keys().key("t", BODY)
    assert before.identity(edited) != after.identity(edited)


def test_a_key_beside_another_stays_in_its_scope_and_partition() -> None:
    """A tenant's purge finds it, and one script may name both; each flight that is evaded has another."""
    key = keys().key("t", saying("q"))
    found = {beside(key, 1), beside(key, 2), beside(keys().key("t", saying("r")), 1), key}
    assert len(found) == 4
    assert beside(key, 1) == beside(key, 1)
    assert (len(beside(key, 1)), beside(key, 1)[:16], beside(key, 1)[-2:]) == (64, key[:16], key[-2:])
    assert set(beside(key, 1)) <= set("0123456789abcdef")
