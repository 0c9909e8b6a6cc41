"""One question at a time per key: who waits is told what came of it, whatever becomes of whoever asked."""

from __future__ import annotations

import asyncio

import pytest

from chatbot.turns import Turns
from tests.cancellation import cancel_at_every_await
from tests.fakes.turns import settle
from tests.virtual_time import virtual


async def wait(turns: Turns[str], got: list[str | None]) -> None:
    got.append(await turns.outcome("k"))


@virtual
async def test_what_is_found_is_for_all_who_wait() -> None:
    """And the key is free afterwards; another key was never taken."""
    turns: Turns[str] = Turns()
    got: list[str | None] = []
    async with asyncio.TaskGroup() as group:
        with turns.mine("k") as found:
            assert turns.taken("k")
            assert not turns.taken("other")
            for _ in range(3):
                group.create_task(wait(turns, got))
            await settle()
            assert got == []
            found.append("answer")
    assert got == ["answer"] * 3
    assert not turns.taken("k")


@virtual
async def test_with_nothing_found_everybody_looks_for_himself() -> None:
    """Also when whoever asked failed: nobody waits for ever (prototype bug a: they look again in a loop)."""
    turns: Turns[str] = Turns()
    got: list[str | None] = []

    async def fails() -> None:
        with turns.mine("k"):
            await settle()
            raise RuntimeError

    async def asks() -> None:
        with pytest.raises(RuntimeError):
            await fails()

    async with asyncio.TaskGroup() as group:
        group.create_task(asks())
        await asyncio.sleep(0)
        group.create_task(wait(turns, got))
    assert got == [None]
    assert not turns.taken("k")


@virtual
async def test_who_asks_may_be_cancelled_at_any_moment() -> None:
    """The key is never left taken, and those who wait are told."""
    turns: Turns[str] = Turns()

    async def ask() -> None:
        with turns.mine("k") as found:
            await asyncio.sleep(1)
            found.append("x")
            await asyncio.sleep(1)

    async def free(n: int) -> None:
        assert not turns.taken("k")

    assert await cancel_at_every_await(ask, free) == 2


@virtual
async def test_who_waits_may_leave() -> None:
    """The others are told all the same."""
    turns: Turns[str] = Turns()
    got: list[str | None] = []
    async with asyncio.TaskGroup() as group:
        with turns.mine("k") as found:
            leaver = group.create_task(wait(turns, got))
            group.create_task(wait(turns, got))
            await settle()
            leaver.cancel()
            await settle()
            found.append("x")
    assert got == ["x"]
