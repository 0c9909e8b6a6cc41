"""Tools out of the operator's own module: found by its name, and refused with a reason."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from processing.tools.module import tools_of
from tests.fakes.tools import Played


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    made = types.ModuleType("played_tools")
    sys.modules["played_tools"] = made
    yield made
    del sys.modules["played_tools"]


def test_tools_are_found_by_their_address(module: types.ModuleType) -> None:
    """In the order of the list, which is that of what the model is told."""
    played = Played()
    vars(module)["TOOLS"] = (played.sleeper("b"), played.sleeper("a"))
    assert [tool.name for tool in tools_of("played_tools:TOOLS")] == ["b", "a"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "the address of tools is"),
        ("played_tools", "the address of tools is"),
        ("played_tools:", "the address of tools is"),
        (":TOOLS", "the address of tools is"),
        ("mine/tools.py:TOOLS", r"with dots and without \.py"),
        ("no_such_tools:TOOLS", r"no_such_tools cannot be imported \(ModuleNotFoundError"),
        ("played_tools:MISSING", "played_tools has no list of tools MISSING"),
        ("played_tools:EMPTY", "played_tools has no list of tools EMPTY"),
        ("played_tools:PLAIN", "item 0 is no tool"),
    ],
)
def test_what_is_wrong_is_said(module: types.ModuleType, address: str, why: str) -> None:
    """At the start: a gateway without its tools answers wrongly, and nobody sees why."""
    vars(module).update(EMPTY=[], PLAIN=[print])
    with pytest.raises(ValueError, match=why):
        tools_of(address)


def test_a_module_that_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "division by zero" alone is no help to who wrote it."""
    (tmp_path / "failing_tools.py").write_text("a = 1\nb = a / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"ZeroDivisionError: division by zero, at .*failing_tools\.py:2\)"):
        tools_of("failing_tools:TOOLS")
    with pytest.raises(ValueError, match=r"ModuleNotFoundError: No module named 'no_such_tools'\)"):
        tools_of("no_such_tools:TOOLS")
