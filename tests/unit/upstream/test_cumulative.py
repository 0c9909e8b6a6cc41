"""An upstream that repeats its whole text: only growth goes on."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import UpstreamBadResponse
from upstream.chunk import Chunk, parse_chunk
from upstream.cumulative import Cumulative


def chunk(*, index: int = 0, **delta: str | None) -> Chunk:
    return parse_chunk(json.dumps({"id": "c", "choices": [{"index": index, "delta": delta}]}).encode())


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=8))
def test_the_growth_adds_up_to_the_last_text(pieces: list[str]) -> None:
    """Whatever the steps, also empty ones."""
    cumulative = Cumulative()
    texts = ["".join(pieces[: n + 1]) for n in range(len(pieces))]
    assert [cumulative.growth(chunk(content=text)).text for text in texts] == pieces


def test_the_chunk_itself_carries_only_the_growth() -> None:
    """Its JSON is what readers get."""
    cumulative = Cumulative()
    cumulative.growth(chunk(content="ha"))
    grown = cumulative.growth(chunk(content="ha ha"))
    assert json.loads(grown.raw) == {"id": "c", "choices": [{"index": 0, "delta": {"content": " ha"}}]}


def test_a_repetition_without_growth_is_no_content() -> None:
    """The closing chunk often repeats the whole text once more."""
    cumulative = Cumulative()
    cumulative.growth(chunk(content="all"))
    again = cumulative.growth(chunk(content="all"))
    assert (again.text, again.content) == ("", False)
    assert cumulative.growth(chunk(content=None)).text == ""
    assert cumulative.growth(chunk(content="all!")).text == "!"


def test_text_and_reasoning_of_each_choice_grow_apart() -> None:
    """Each has its own memory."""
    cumulative = Cumulative()
    cumulative.growth(chunk(content="a", reasoning_content="r"))
    cumulative.growth(chunk(index=1, content="b"))
    grown = cumulative.growth(chunk(content="ab", reasoning_content="rs"))
    assert (grown.text, grown.reasoning) == ("b", "s")


@pytest.mark.parametrize("text", ["a", "xyz", "abX"])
def test_a_text_that_does_not_extend_the_former_is_refused(text: str) -> None:
    """Then the operator's setting is wrong, and sending it on would send text twice."""
    cumulative = Cumulative()
    cumulative.growth(chunk(content="abc"))
    with pytest.raises(UpstreamBadResponse):
        cumulative.growth(chunk(content=text))
