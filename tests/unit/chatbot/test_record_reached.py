"""How far a request has been, though nobody asked here while it was: another process may have shown it."""

from __future__ import annotations

import asyncio

import pytest

from broadcast.lifecycle import Phase
from tests.fakes.pipeline import pipeline
from tests.virtual_time import virtual


@virtual
@pytest.mark.parametrize(("streamed", "status"), [(True, "streaming"), (False, "waiting_slot")])
async def test_what_it_has_been_in_since_it_came_stays_its_status(streamed: bool, status: str) -> None:
    """Row 3: it streamed and waits again; elsewhere `streaming` was polled, so nobody says less. What its
    flight was in before it came is not its own."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        await asyncio.sleep(1)
        now = asyncio.get_running_loop().time()
        record.broadcast.entered_at[Phase.LIVE] = now if streamed else record.ticket.arrived_at - 1
        record.broadcast.phase = Phase.QUEUED
        assert pipe.manager.progress(record).status == status


@virtual
async def test_while_an_end_is_held_back_it_is_where_it_was() -> None:
    """A guest whose flight has ended, and whose owner has not said so yet."""
    async with pipeline() as pipe:
        record = await pipe.ask("q")
        before, record.broadcast.phase = record.broadcast.phase, Phase.FAILED
        progress = pipe.manager.progress(record)
        record.broadcast.phase = before
        assert (progress.status, progress.stage) == ("ready", "subscriber")
