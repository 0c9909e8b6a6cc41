"""Shared work that does not end when it is told to: it may keep what it has, but nobody who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from processing.twins import STUBBORN_S, Company
from tests.fakes.turns import settle
from tests.unit.processing.test_twins import Shop
from tests.virtual_time import virtual


@virtual
async def test_work_that_swallows_its_cancel_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A tool with a bare `except` in a loop: its flight, with a leaders permit, must not hang."""
    shop, given_up = Shop(), asyncio.Event()

    async def stubborn(company: Company) -> int:
        while not given_up.is_set():
            try:
                await given_up.wait()
            except asyncio.CancelledError:
                continue
        return 1

    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await shop.ask(work=stubborn)
    assert loop.time() - began == 1 + STUBBORN_S
    assert [record.message for record in caplog.records] == ["work goes on after its cancel"]
    assert await shop.ask() == 1, "nobody joins it"
    given_up.set()
    await settle()
    shop.assert_empty()
