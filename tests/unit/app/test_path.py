"""Names of fields in error messages: readable, bounded, and no way to smuggle anything into them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.path import dotted


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (["model"], "model"),
        (["messages", 0, "content"], "messages[0].content"),
        (["messages", 12, "content", 3, "type"], "messages[12].content[3].type"),
        ([0, "a"], "[0].a"),
        ([], ""),
        ([""], ""),
    ],
)
def test_a_path_reads_as_openai_writes_it(path: list[str | int], name: str) -> None:
    """`param` is what SDK users look for: `messages[0].content`."""
    assert dotted(path) == name


@given(st.lists(st.one_of(st.text(max_size=200), st.integers(min_value=0, max_value=10**6)), max_size=100))
def test_any_path_is_short_and_printable(path: list[str | int]) -> None:
    """Names come from the client: no line break, no control character, no flood is repeated."""
    name = dotted(path)
    assert name.isprintable()
    assert len(name) <= 8 * 65


@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[31m", "x" * 65, "\u2028"])
def test_a_hostile_name_becomes_a_question_mark(hostile: str) -> None:
    """The rest of the path still says where it was."""
    assert dotted(["metadata", hostile, 0]) == "metadata.?[0]"
