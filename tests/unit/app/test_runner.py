"""The loop that everything runs in."""

from __future__ import annotations

import asyncio
import sys

import pytest

from app.runner import run_loop


async def seven() -> int:
    return 7


async def which() -> int:
    return int(type(asyncio.get_running_loop()).__module__.startswith("uvloop"))


def test_it_runs_to_the_end_and_gives_the_result() -> None:
    """The result is the process's exit status."""
    assert run_loop(seven()) == 7


def test_an_error_is_not_a_status() -> None:
    """A start that fails must not look like an orderly end."""

    async def fails() -> int:
        raise OSError("no such address")

    with pytest.raises(OSError, match="no such address"):
        run_loop(fails())


def test_without_uvloop_it_is_the_standard_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop has no wheel for every platform: then it is slower, not broken."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_loop(which()) == 0
