"""The loop that everything runs in."""

from __future__ import annotations

import asyncio
import subprocess
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


def test_a_task_that_swallows_its_cancel_does_not_keep_the_process() -> None:
    """A tool of the operator's may do that: SIGTERM must end the gateway all the same, with its status."""
    script = """
import asyncio
from app import runner

runner.STUBBORN_S = 0.1

async def deaf():
    while True:
        try:
            await asyncio.sleep(60)
        except BaseException:
            print("deaf", flush=True)

async def main():
    task = asyncio.get_running_loop().create_task(deaf())
    await asyncio.sleep(0)
    return 3

runner.run_loop(main())
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (3, "deaf\n")
