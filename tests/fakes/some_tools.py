"""Tools as an operator's own module has them."""

from __future__ import annotations

from processing.tools import Caller, tool


def letters(caller: Caller) -> str:
    """The caller's letters."""
    return f"letters of {caller.user}"


def clock() -> str:
    """The time."""
    return "12:00"


TOOLS = [tool(letters, user_bound=True, timeout_s=1), tool(clock, time_bound=1, timeout_s=1)]
