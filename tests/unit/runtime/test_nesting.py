"""The depth of decoded JSON, measured without following it too far."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.nesting import MAX_DEPTH, may_be_too_deep, too_deep


def nested(depth: int) -> Any:
    value: Any = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    ("depth", "expected"), [(1, False), (MAX_DEPTH, False), (MAX_DEPTH + 1, True), (900, True)]
)
def test_the_bound_is_exact(depth: int, expected: bool) -> None:
    """Sixty-four levels pass, one more does not, and far more is not followed to its end."""
    assert too_deep(nested(depth)) is expected


def test_few_brackets_need_no_look() -> None:
    """The cheap check never passes by what is too deep."""
    assert not may_be_too_deep(b"[" * MAX_DEPTH)
    assert may_be_too_deep(b"[" * (MAX_DEPTH + 1))
    assert not too_deep("[" * 1000)
