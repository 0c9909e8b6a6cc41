"""docs/testing.md names a test for each requirement that is delivered, and the test names the requirement."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache

import pytest

from tests.architecture.pages import section
from tests.architecture.tree import ROOT, parsed, sources

PAGE = "docs/testing.md"
#: The rows of the requirements that this version delivers.
DELIVERED = frozenset(
    {62, *range(91, 96), 98, 104}.union(
        range(1, 59),
        range(69, 83),
        range(84, 91),
        range(99, 103),
    )
)
_ROWS = re.compile(r"\bRows? (\d+(?:(?:, | and |, and |-|\N{EN DASH})\d+)*)")


def rows_named(docstring: str) -> set[int]:
    """The rows that a docstring names: `Row 15`, `Rows 84 and 85`, `Rows 1-4, 7`."""
    named: set[int] = set()
    for group in _ROWS.findall(docstring):
        for part in re.split(r", and |, | and ", group):
            first, *last = map(int, re.split("[-\N{EN DASH}]", part))
            named |= set(range(first, (last or [first])[0] + 1))
    return named


@cache
def proofs() -> dict[int, set[str]]:
    """Row → the tests whose own docstring, or whose module's, names it, as `path::name`."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in sources(["tests"]):
        tree = parsed(path)
        of_module = rows_named(ast.get_docstring(tree) or "")
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for row in of_module | rows_named(ast.get_docstring(node) or ""):
                    found[row].add(f"{path.relative_to(ROOT)}::{node.name}")
    return found


@cache
def documented() -> dict[int, set[str]]:
    """Row → the tests that the page names for it."""
    lines = re.findall(
        r"^\| (\d+) \|[^|]*\|(.*)\|$", section(PAGE, "Requirements and their tests"), re.MULTILINE
    )
    return {int(row): set(re.findall(r"`([^`]+::[^`]+)`", tests)) for row, tests in lines}


def test_every_delivered_row_is_on_the_page() -> None:
    """None missing, and none that is not delivered yet."""
    assert set(documented()) == DELIVERED


@pytest.mark.parametrize("row", sorted(DELIVERED))
def test_every_row_names_tests_that_exist_and_say_so(row: int) -> None:
    """A test that was renamed or removed takes its line on the page with it."""
    named, proven = documented().get(row, set()), proofs().get(row, set())
    assert named, f"the page names no test for row {row}; these say that they prove it: {sorted(proven)}"
    assert named <= proven


@pytest.mark.parametrize(
    ("docstring", "rows"),
    [
        ("Row 15: the hook's peak.", {15}),
        ("Rows 84 and 85, and part 10 of the issue.", {84, 85}),
        ("Rows 2, 3 and 62: …", {2, 3, 62}),
        ("Rows 1-3: …", {1, 2, 3}),
        ("Three rows of seats.", set()),
    ],
)
def test_rows_are_read_from_docstrings(docstring: str, rows: set[int]) -> None:
    """Whoever writes a test names its row in words, not in a marker that nobody reads."""
    assert rows_named(docstring) == rows
