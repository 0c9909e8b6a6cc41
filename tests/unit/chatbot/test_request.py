"""A request: what may be shared."""

from __future__ import annotations

from typing import Any

import pytest

from chatbot.request import CacheDirectives, ChatRequest


@pytest.mark.parametrize(
    ("body", "no_store", "shareable"),
    [
        ({}, False, True),
        ({"n": 1}, False, True),
        ({"n": None}, False, True),
        ({"n": 2}, False, False),
        ({"n": 0}, False, False),
        ({}, True, False),
    ],
)
def test_several_samples_and_private_requests_are_not_shared(
    body: dict[str, Any], no_store: bool, shareable: bool
) -> None:
    """Neither read, nor joined, nor written."""
    assert ChatRequest(body, cache=CacheDirectives(no_store=no_store)).shareable is shareable


@pytest.mark.parametrize(
    "directives",
    [CacheDirectives(no_cache=True), CacheDirectives(only_if_cached=True), CacheDirectives(max_age_s=0)],
)
def test_other_directives_still_share(directives: CacheDirectives) -> None:
    """They say what may be read, not that the answer is private."""
    assert ChatRequest({}, cache=directives).shareable
